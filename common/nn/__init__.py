"""Parts of networks.

attention, fusion: text meets pixels.  backbones, efficientnet, hub_backbone: image features.
report_decoder, relational_memory, beam_search: reports.  published: names of published weights.
finding_prompts: findings told to a decoder.  losses: of segmentation.
recomputation: activations made again in the backward pass.
cpu_layout: weights laid out for CPUs, folding: batch norms into convolutions.
"""
