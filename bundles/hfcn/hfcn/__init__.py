"""Code of the HFCN bundle (IEEE Access 2020); what the paper leaves open is our completion.

network: trunk, global branch, feature-cropping branch.  loss: a named term for each branch.  data: nodule crops with
labels, transforms.  iteration: one step of training, validation and inference.  metrics: of images and of cases, and
the threshold.  predictions: what inference writes.
"""
