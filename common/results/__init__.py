"""What a run leaves in its folder.

predictions: of inference.  evaluation: metrics.json, per_case.csv.  page, page.html.j2: index.html.
blocks: what a page is made of; case_sections, outlines, strata, charts, topic_map: parts of one.  metric_words: what a
metric means.  remarks: what a reader should know of a case.
comparison: two evaluations.  drawing, fonts: pictures.  saving: from Python, one by one.  typed: results as objects.
expected_dice: how good a mask can be expected to be.
names: of result files, one for each case.  findings: what a network says; sizes: in mm; borders: how far apart.
dicom, dicom_source: objects for archives.
"""
