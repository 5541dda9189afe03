"""Metrics that MONAI leaves open: pure functions, and handlers around them.

segmentation, detection, classification; text: BLEU, METEOR, ROUGE-L, CIDEr-D; entities of entities.json; reports: all.
observations: the 14 of CheXpert in English chest reports, by phrases of observations.json and the rules of assertion.
entity_status: what is said of an entity.  sentence_truth: whether a sentence is right by its reference.  radeval:
published metrics of that package.  platt: scores to probabilities.  familiarity: distance to the training's features.
intervals: bootstrap over patients.
"""
