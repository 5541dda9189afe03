"""From a file to pixels: files opens any image; dicom and nifti their kinds; reader is MONAI's; masks.

ranges: which grey values are content.  manifest: files that a check has read.
"""
