"""Code of the CLIP-TNseg bundle (IEEE Signal Processing Letters 2025).

network: coarse branch, fine branch, head.  frozen_clip: the CLIP that both training and inference read.
published: weights under the published names.
"""
