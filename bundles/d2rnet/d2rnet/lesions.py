"""Lesion boxes of studies: read, checked, cut out of the image in its own pixels."""

from __future__ import annotations

import json
import logging
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.transforms import Transform
from PIL import Image

from common.datasets.files import image_size, open_image, to_grey
from common.datasets.lesion_boxes import SLACK, as_corners
from common.datasets.studies import read_studies

from .metrics import side_of

logger = logging.getLogger(__name__)


def read_lesions(root: str, split: str, *, views: int = 1, annotation: str | None = None) -> list[dict]:
    """:func:`common.datasets.studies.read_studies` with ``boxes`` float (M, 4), x1, y1, x2, y2, ``scores`` (M,),
    ``box_labels``, "" where there is none, and ``lesions``: "SIDE:LABEL" of each box with a label, joined by ";".

    Boxes belong to the first image, in its pixels. Files hold x, y, width, height as published; where all of a split's
    boxes fit their images as corners and some do not as published, they are read as corners. Empty slots (-1) and boxes
    without area are left out; what leaves the image is cut off. Both are counted in the log.

    Raises:
        ValueError: a box that is no four numbers, or another number of scores than of boxes.
    """
    studies = read_studies(root, split, views=views, annotation=annotation, extras=("boxes", "scores", "box_labels"))
    raw = [_numbers(study) for study in studies]
    sizes = [image_size(study["images"][0]) for study in studies]
    corners = as_corners([boxes for boxes, _ in raw], sizes, what=split)
    found, dropped, cut = [], 0, 0
    for study, boxes, (_, scores), size in zip(studies, corners, raw, sizes, strict=True):
        inside = np.clip(boxes, 0.0, [*size, *size])
        kept = (inside[:, 2:] - inside[:, :2] > 0).all(axis=1)
        dropped += int((~kept).sum())
        cut += int((np.abs(inside - boxes)[kept] > SLACK).any(axis=1).sum())
        own, labels = inside[kept].astype(np.float32), _labels(study)[kept]
        named = {"box_labels": labels.tolist(), "lesions": _named(own, labels, size[0])}
        found.append({**study, "boxes": own, "scores": scores[kept].astype(np.float32), **named})
    if dropped or cut:
        logger.warning(
            "%s: %d boxes without area in their image left out, %d cut off at its border", split, dropped, cut
        )
    return found


def _numbers(study: Mapping) -> tuple[np.ndarray, np.ndarray]:
    """Boxes and scores of an entry as numbers, without empty slots."""
    boxes = study["boxes"] or []
    scores = [1.0] * len(boxes) if study["scores"] is None else study["scores"]
    try:
        values = np.array(boxes, dtype=np.float64).reshape(len(boxes), 4)
        marks = np.array(scores, dtype=np.float64).reshape(len(scores))
    except (ValueError, TypeError) as error:
        raise ValueError(f"boxes of study {study['study']!r}: {boxes!r} are not four numbers each") from error
    if len(values) != len(marks):
        raise ValueError(f"boxes of study {study['study']!r}: {len(values)} boxes but {len(marks)} scores")
    if not np.isfinite(values).all():
        raise ValueError(
            f"boxes of study {study['study']!r}: {boxes!r} hold a value that is no number; correct the entry"
        )
    there = ~_empty(values)
    return values[there], marks[there]


def _empty(values: np.ndarray) -> np.ndarray:
    return (values == -1).all(axis=1)


def _labels(study: Mapping) -> np.ndarray:
    """The label of each box that is no empty slot; "" where the entry has no labels."""
    values = np.array(study["boxes"] or [], dtype=np.float64).reshape(-1, 4)
    labels = study["box_labels"] or [""] * len(values)
    if len(labels) != len(values):
        raise ValueError(f"boxes of study {study['study']!r}: {len(values)} boxes but {len(labels)} box_labels")
    return np.array(labels, dtype=object)[~_empty(values)]


def _named(boxes: np.ndarray, labels: np.ndarray, width: float) -> str:
    middles = (boxes[:, 0] + boxes[:, 2]) / 2
    return ";".join(f"{side_of(x, width)}:{label}" for x, label in zip(middles, labels, strict=True) if label)


class CropRegionsd(Transform):
    """``regions``, float (R, 3, size, size), and ``region_mask``, bool (R,), from ``boxes`` of the first of ``images``.

    A region is cut from the image as stored, padded with its own mean to a square, and standardised by its own mean and
    deviation (published; deviations below 0.01 count as 0.01). The ``count`` surest boxes are taken.

    Args:
        places: the second and third channel hold each pixel's x and y in the image, -1 to 1, so that the network knows
            where a region lies (CoordConv, Liu et al. 2018; ours). False: all three are alike, as published; a region
            then has no side.
    """

    def __init__(self, *, count: int, size: int, places: bool) -> None:
        self.count, self.size, self.places = count, size, places

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        regions = torch.zeros(self.count, 3, self.size, self.size)
        surest = np.argsort(-data["scores"], kind="stable")[: self.count]
        if len(surest):
            pixels = np.asarray(to_grey(open_image(data["images"][0])))
            for place, index in enumerate(surest):
                regions[place] = self._region(pixels, data["boxes"][index])
        return {**data, "regions": regions, "region_mask": torch.arange(self.count) < len(surest)}

    def _region(self, pixels: np.ndarray, box: np.ndarray) -> torch.Tensor:
        x1, y1 = np.floor(box[:2]).astype(int)
        x2, y2 = np.maximum(np.ceil(box[2:]).astype(int), (x1 + 1, y1 + 1))
        cut = pixels[y1:y2, x1:x2].astype(np.float32)
        side = max(cut.shape)
        square = np.full((side, side), cut.mean(), dtype=np.float32)
        top, left = (side - cut.shape[0]) // 2, (side - cut.shape[1]) // 2
        square[top : top + cut.shape[0], left : left + cut.shape[1]] = cut
        whole = Image.fromarray(square).resize((self.size, self.size), Image.Resampling.BILINEAR)
        region = torch.from_numpy(np.array(whole)) / 255
        standard = (region - region.mean()) / region.std().clamp(min=0.01)
        if not self.places:
            return standard.expand(3, -1, -1)
        steps = (torch.arange(self.size) + 0.5) / self.size * side
        x, y = (
            (low + steps) / extent * 2 - 1
            for low, extent in zip((x1 - left, y1 - top), pixels.shape[::-1], strict=True)
        )
        return torch.stack([standard, x.expand(self.size, -1), y[:, None].expand(-1, self.size)])


class DescribeBoxesd(Transform):
    """Add ``found``: JSON of ``boxes`` (x, y, width, height), their labels and scores, the surest first; one string can
    be put into a batch.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        entries = []
        for index in np.argsort(-data["scores"], kind="stable"):
            x1, y1, x2, y2 = (round(float(value), 1) for value in data["boxes"][index])
            box = [x1, y1, round(x2 - x1, 1), round(y2 - y1, 1)]
            score = round(float(data["scores"][index]), 4)
            entries.append({"label": data["box_labels"][index], "score": score, "box": box})
        return {**data, "found": json.dumps(entries, ensure_ascii=False)}
