"""What inference writes: probabilities, and a picture of what both branches look at."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from common.engine.familiarity import TellFamiliarity
from common.results import drawing
from common.results.findings import Finding
from common.results.predictions import PredictionFiles, Shown

from .calibration import Calibration, read_calibration
from .network import HFCN

logger = logging.getLogger(__name__)
COLOURS = ((255, 176, 0), (0, 200, 255), (120, 220, 80), (255, 110, 110), (200, 140, 255))


def prediction_files(
    *,
    network: HFCN,
    output_dir: str,
    weights: str,
    dicom: bool = False,
    familiarity: TellFamiliarity | None = None,
) -> PredictionFiles:
    """The handler of inference: class and probabilities at the threshold that ``network`` brings.

    Args:
        weights: file of the network, beside which its calibration may lie.
        dicom, familiarity: as of :class:`common.results.predictions.PredictionFiles`.
    """
    calibration, told = read_calibration(weights), False

    def show(_: str, item: dict, data: dict) -> Shown:
        nonlocal told
        if not told and network.mask_branch is not None and not bool(item["asks_mask"]):
            told = True
            logger.warning("an image without a mask: the branch that decides most is not asked; pass --mask")
        entry = describe(item, float(network.threshold), calibration)  # type: ignore[arg-type]
        if "truth" in data:
            entry["truth"] = data["truth"]
        picture = partial(draw, np.asarray(data["image"][0]), item, network.side)
        known = {} if entry["prob_calibrated"] is None else {"calibrated": entry["prob_calibrated"]}
        finding = Finding(
            {"malignant": entry["prob"], **known}, category=entry["class"], unsure=entry["unsure"] is True
        )
        return Shown(entry, {"overlay": picture}, [finding])

    about = "Left: what speaks for malignant on the whole map. Right: the crops and their probability of malignant."
    title = "HFCN: benign or malignant"
    return PredictionFiles(
        output_dir=output_dir, show=show, title=title, note=about, dicom=dicom, familiarity=familiarity
    )


def describe(item: dict, threshold: float, calibration: Calibration | None = None) -> dict:
    """An entry of ``predictions.json``; ``prob_calibrated`` and ``unsure`` are None where that is not known."""
    known: dict[str, float | bool | None] = {"prob_calibrated": None, "unsure": None}
    if calibration is not None and bool(item["can_be_calibrated"]):
        calibrated = float(calibration(float(item["prob"])))
        unsure = calibration.around(threshold).is_unsure(calibrated)
        known = {"prob_calibrated": round(calibrated, 4), "unsure": bool(unsure)}
    values = {key: round(float(item[key]), 4) for key in ("prob", "prob_global", "prob_crops")}
    return {
        "class": "malignant" if float(item["prob"]) >= threshold else "benign",
        "threshold": round(threshold, 4),
        **known,
        **values,
        "prob_mask": round(float(item["prob_mask"]), 4) if bool(item["asks_mask"]) else None,
        "crop_probs": [round(value, 4) for value in item["crop_probs"].tolist()],
    }


def draw(image: np.ndarray, item: dict, side: Callable[[int], int], *, height: int = 384) -> Image.Image:
    """``image`` (H, W) in [0, 1] with the activation that speaks for malignant, and with the crops' windows.

    ``side``: of a crop, by that of the map.
    """
    grey = (np.clip(image, 0, 1) * 255).astype(np.uint8)
    activation: torch.Tensor = item["activation"].clamp(min=0).cpu()
    left = drawing.attention_map(grey, activation.numpy(), title="activation: malignant", height=height)
    width, height = drawing.shown_size(grey, height)
    right = Image.fromarray(grey).convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(right)
    positions = 2 * torch.tensor(activation.shape)  # the trunk's map has twice the activation's side
    extent = [side(int(length)) for length in positions]
    for index, (window, prob) in enumerate(zip(item["windows"].tolist(), item["crop_probs"].tolist(), strict=True)):
        down, across = (window[axis] / int(positions[axis]) for axis in range(2))
        box = [across * width, down * height, across * width + extent[1] / int(positions[1]) * width - 1,
               down * height + extent[0] / int(positions[0]) * height - 1]  # fmt: skip
        pen.rectangle(box, outline=COLOURS[index % len(COLOURS)], width=2)
        label = (box[0] + 6 + 60 * (index % 3), box[1] + 4 + 18 * (index // 3))
        pen.text(label, f"{prob:.2f}", fill=COLOURS[index % len(COLOURS)], font=ImageFont.load_default(size=15))
    return drawing.side_by_side([left, right])
