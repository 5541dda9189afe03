"""FCOS whose four distances carry an uncertainty, trained with Unbiased Teacher v2.

network; assignment: which position answers for which box, losses; teacher; data; steps; metrics; finder: a trained
detector on files; pseudo_labels: its boxes into an annotation; export.
"""
