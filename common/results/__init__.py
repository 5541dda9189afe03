"""What a run leaves in its folder.

predictions: of inference.  evaluation: metrics.json, per_case.csv.  page, page.html.j2: index.html.
drawing, fonts: pictures.
expected_dice: how good a mask can be expected to be.
names: of result files, one for each case.  findings: what a network says, and its size in mm.
dicom, dicom_source: objects for archives.
"""
