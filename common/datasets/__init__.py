"""Readers: ``read_x(root, split) -> list[dict]`` of paths and plain values; images are loaded by transforms.

layouts: ``read_dataset`` recognises what lies in a folder; ratn, ddti, tn3k, phrasecut: one family each.
table: cases.csv.  studies: images with one report, of an annotation; mimic: MIMIC-CXR's folders; packed: large sets in
little memory.  boxes: lesions, of coco or vindr; boxed: what a file says of them; box_files: folders of them, read and
written, which convert_boxes turns into each other; box_fusion joins readers.  phrases, malignancy: what CLIP-TNseg
and HFCN take.  splits: by patient.
listed: cases that another program lists.  inspection: faults of a data set, inspection_report: in words.
"""
