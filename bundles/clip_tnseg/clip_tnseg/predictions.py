"""What inference writes besides the masks."""

from __future__ import annotations

from functools import partial

import numpy as np

from common.engine.familiarity import TellFamiliarity
from common.images.files import open_image, to_grey
from common.images.masks import truth_in, truth_named
from common.images.nifti import rows_first, rows_first_mask
from common.results import drawing
from common.results.expected_dice import ExpectedDice, certainty, read_expected_dice
from common.results.findings import Finding, measured
from common.results.predictions import PredictionFiles, Shown, mask_picture, probability_picture


def prediction_files(
    *,
    output_dir: str,
    dicom: bool = False,
    probabilities: bool = False,
    familiarity: TellFamiliarity | None = None,
    weights: str | None = None,
) -> PredictionFiles:
    """The handler of inference: an overlay for each image.

    Args:
        probabilities: write each pixel's probability, too, as a grey picture.
        weights: file of the network, beside which :mod:`common.results.expected_dice` keeps its line.
    """
    expected = None if weights is None else read_expected_dice(weights)
    return PredictionFiles(
        output_dir=output_dir,
        show=partial(show, probabilities=probabilities, expected=expected),
        title="CLIP-TNseg: thyroid nodules by a phrase",
        note="Below each image its phrase.",
        dicom=dicom,
        familiarity=familiarity,
    )


def show(name: str, item: dict, data: dict, *, probabilities: bool, expected: ExpectedDice | None = None) -> Shown:
    """The mask's outline over the image ``name``."""
    mask = rows_first_mask(item["pred"])
    grey = np.asarray(to_grey(open_image(name)))
    pictures = {"mask": partial(mask_picture, mask), "overlay": partial(drawing.overlay, grey, mask, truth_in(data))}
    sizes, prob_map = measured(name, mask), rows_first(item["prob_map"])
    if probabilities:
        pictures["probability"] = partial(probability_picture, prob_map)
    entry = {"phrase": data["phrase"], "nodule_area_share": float(mask.mean())}
    certain, values = certainty(mask, prob_map, expected)
    entry |= {**certain, **truth_named(data)}
    finding = Finding(sizes | values, mask=mask)
    return Shown(entry | sizes, pictures, [finding], probabilities=prob_map)
