"""Readers: ``read_x(root, split) -> list[dict]`` of paths and plain values; images are loaded by transforms.

layouts: ``read_dataset`` recognises what lies in a folder.  ratn, ddti, tn3k: one layout family each.  labels: masks.
files: checks, splits by case.  synthetic: the embedded data; phantom draws them, thyroid_reports words them.
"""
