"""What inference writes besides the masks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from common import visualize
from common.datasets.files import to_grey
from common.prediction_files import PredictionFiles, Shown


def prediction_files(*, output_dir: str) -> PredictionFiles:
    """The handler of inference: an overlay for each image."""
    return PredictionFiles(
        output_dir=output_dir,
        show=show,
        title="CLIP-TNseg: thyroid nodules by a phrase",
        note="Below each image its phrase.",
    )


def show(name: str, item: dict, data: dict) -> Shown:
    """The mask's outline over the image ``name``."""
    mask = np.asarray(item["pred"]).astype(bool).T
    with Image.open(name) as image:
        picture = visualize.overlay(np.asarray(to_grey(image)), mask)
    entry = {"phrase": data["phrase"], "mask": f"{Path(name).stem}_mask.png", "nodule_area_share": float(mask.mean())}
    return Shown(entry, {"overlay": picture}, data["phrase"])
