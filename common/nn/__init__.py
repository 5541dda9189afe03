"""Parts of networks.

attention, fusion: text meets pixels.  backbones, efficientnet, hub_backbone: image features.
report_decoder, relational_memory, beam_search: reports.  published: names of published weights.
cpu_layout: weights laid out for CPUs.
"""
