"""Metrics that MONAI leaves open: pure functions, and handlers around them.

segmentation, detection, classification; text: BLEU, METEOR, ROUGE-L, CIDEr-D; entities of entities.json; reports: all.
intervals: bootstrap over patients.
"""
