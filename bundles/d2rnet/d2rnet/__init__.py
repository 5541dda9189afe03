"""D2R-Net: chest X-ray reports from the whole image and from detected lesions.

detector: finds lesions (FCOS, Unbiased Teacher v2), and puts their boxes into the annotation of studies.
report: writes the report from the image and the lesions, aligned with the report while training.
"""
