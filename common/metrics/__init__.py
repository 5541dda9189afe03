"""Metrics that MONAI leaves open: pure functions, and handlers around them.

segmentation, detection, classification; text: BLEU, METEOR, ROUGE-L, CIDEr-D; entities of entities.json; reports: all.
observations: the 14 of CheXpert in English chest reports, by phrases of observations.json and the rules of assertion.
intervals: bootstrap over patients.
"""
