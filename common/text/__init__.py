"""Reports in and out.

tokenizer: words to ids.  encoders: ids to features.  distiller: clusters of reports.  sentences: of generated reports.
thyroid: sentences about nodules.  encoding: a report sentence by sentence.  sides: left and right exchanged.
cache: of words, bounded.
"""
