"""Code of the AKE-SSFA bundle (PRCV 2023); what the paper leaves open is our completion.

network: segmenter (SSFA) and both together.  decoder: the way up.  generator: of keywords (AKE).
loss: segmentation and attribution losses.
erasure: hard keyword masks and what erasing a sentence costs.  phases: which game is played in which epoch.
steps: one step of training, validation, evaluation and inference.
keyword_metrics: keywords against the truth.  data: transforms and cases.  predictions: what inference writes.
report_fit: whether a report is about its image.  export: ONNX.
"""
