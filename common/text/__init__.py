"""Reports in and out.

tokenizer: words to ids.  encoders: ids to features.  distiller: clusters of reports.  sentences: of generated reports.
thyroid: sentences about nodules.  recent: a bounded cache.
"""
