"""D2R-Net: chest X-ray reports from the whole image and from detected lesions.

Detector: detector (network), assignment (losses), semi_supervised (Unbiased Teacher v2), chests (data), detection (a
step of training, metrics), finding (a trained detector at work), pseudo_labels. Report: visual, channel_prior, regions,
network, alignment, lesions and data (studies with boxes), iteration, metrics, predictions. export: ONNX of both.
published: weights under the published names.
"""
