"""Contrastive pre-training of a small CLIP on pairs of image and phrase.

model: the published class, small; steps: InfoNCE; retrieval: recall at k, and which CLIP is the best.
"""
