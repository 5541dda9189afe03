"""Code of the CLIP-TNseg bundle (IEEE Signal Processing Letters 2025).

network: coarse branch, fine branch, head.  frozen_clip: the CLIP that both training and inference read.  conditions:
embeddings of phrases and prompts.  taps: frozen features on disk.  data: prompts, transforms.  steps: one step of
training and inference.  metrics, predictions, export: what comes out.  published: weights under the published names.
packaged_encoders: a tower and phrase vectors that come as packages.  phrase_tokenizer: words of phrases.
pretraining: a small CLIP, where no published one can be had.
"""
