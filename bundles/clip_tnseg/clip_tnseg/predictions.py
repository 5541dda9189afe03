"""What inference writes besides the masks."""

from __future__ import annotations

from functools import partial

import numpy as np

from common.images.files import open_image, to_grey
from common.images.nifti import rows_first, rows_first_mask
from common.results import drawing
from common.results.findings import Finding, measured
from common.results.predictions import PredictionFiles, Shown, mask_picture


def prediction_files(*, output_dir: str, dicom: bool = False) -> PredictionFiles:
    """The handler of inference: an overlay for each image."""
    return PredictionFiles(
        output_dir=output_dir,
        show=show,
        title="CLIP-TNseg: thyroid nodules by a phrase",
        note="Below each image its phrase.",
        dicom=dicom,
    )


def show(name: str, item: dict, data: dict) -> Shown:
    """The mask's outline over the image ``name``."""
    mask = rows_first_mask(item["pred"])
    grey = np.asarray(to_grey(open_image(name)))
    pictures = {"mask": partial(mask_picture, mask), "overlay": partial(drawing.overlay, grey, mask)}
    sizes = measured(name, mask)
    entry = {"phrase": data["phrase"], "nodule_area_share": float(mask.mean())}
    finding = Finding(sizes, mask=mask)
    return Shown(entry | sizes, pictures, [finding], probabilities=rows_first(item["prob_map"]))
