"""Parts that the bundles share; each module is imported by its own name.

report_tokenizer, text_encoders: report to ids to features.  fusion: text meets pixels.  backbones: image features.
datasets: readers of published layouts, and the synthetic data.  command_line, training_state, result_files: what
``monai.bundle run`` needs around a network.  visualize: pictures and pages of predictions.  pack: a released zip.
"""

__version__ = "0.1.0"
