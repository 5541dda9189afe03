"""Code of the AKE-SSFA bundle (PRCV 2023, doi 10.1007/978-981-99-8558-6_20; what the paper leaves open is our completion).

network: segmenter (SSFA), keyword generator (AKE) and both together.  loss: segmentation and attribution losses.
erasure: hard keyword masks and what erasing a sentence costs.  phases: which game is played in which epoch.
iteration: one step of training, evaluation, inference.  keyword_metrics: keywords against the synthetic truth.
data: transforms and cases.  predictions: what inference writes.
"""
