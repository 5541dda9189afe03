"""Code of the HFCN bundle (IEEE Access 2020); what the paper leaves open is our completion.

network: trunk, global branch, feature-cropping branch.  loss: a named term for each branch.  data: nodule crops with
labels, transforms.  steps: one step of training, validation and inference.  threshold: chosen on validation, and the
metrics at it.  mask_branch: the nodule's inside and outside, fitted at the end.  calibration: scores to probabilities.
predictions, export: what comes out.
"""
