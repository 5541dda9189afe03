"""SGF: ultrasound reports guided by the clusters of the training reports.

network: the network.  published: weights under the published names.  data: studies, labels, transforms.
semantic_space, loss: the three terms.  steps: a step of training and of writing.  metrics: of reports.  predictions,
export: what comes out.  distillation: clusters of reports, chosen and shown.
"""
