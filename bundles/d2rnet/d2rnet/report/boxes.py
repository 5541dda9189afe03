"""Lesion boxes of studies: read, checked, cut out of the image in its own pixels."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Hashable, Mapping, Sequence
from itertools import compress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import RandomizableTrait, Transform
from PIL import Image

from common.datasets.boxed import SURE, boxes_of, require_size, size_told
from common.datasets.boxes import SLACK, as_corners, size_if_any
from common.datasets.packed import packed
from common.datasets.studies import read_studies
from common.images.files import image_size, open_image, to_grey
from common.transforms.views import FINER, OPENED

from .lesion_names import side_of

logger = logging.getLogger(__name__)
EXTRAS = ("boxes", "scores", "box_labels", "width", "height")
WITHOUT = {"box_labels": [], "lesions": "", "boxes": np.zeros((0, 4), np.float32), "scores": np.zeros(0, np.float32)}
JPEG = (".jpg", ".jpeg")  # which may be decoded at a half, a quarter or an eighth of its size
NO_SIZE = (0, 0)  # of an image without boxes, which nobody asks for


def read_boxed_studies(
    root: str,
    split: str,
    *,
    views: int = 1,
    annotation: str | None = None,
    check: bool = True,
    most: int | None = None,
) -> Sequence[dict]:
    """:func:`common.datasets.studies.read_studies` with ``boxes`` float (M, 4), x1, y1, x2, y2, ``scores`` (M,),
    ``box_labels``, "" where there is none, and ``lesions``: "SIDE:LABEL" of each box with a label, joined by ";".

    Boxes belong to the first image, in its pixels. Files hold x, y, width, height as published; where all of a split's
    boxes fit their images as corners and some do not as published, they are read as corners. Empty slots (-1) and boxes
    without area are left out; what leaves the image is cut off. Both are counted in the log.

    ``detected``: the boxes are a detector's, for a score of their split is below 1; ``told_size``: width and height of
    the first image by its entry, which :class:`CropRegionsd` compares, or None.

    Raises:
        ValueError: a box that is no four numbers, a score outside 0 to 1, a label that is no text, or not as many of
            them as boxes.
    """
    options = {"views": views, "annotation": annotation, "extras": EXTRAS, "check": check, "most": most}
    studies = read_studies(root, split, **options, pack=False)  # type: ignore[arg-type]
    raw = [boxes_of(study, where=f"study {study['study']!r}") for study in studies]
    sizes = [_size_of(study, check) if len(told.boxes) else NO_SIZE for study, told in zip(studies, raw, strict=True)]
    corners = as_corners([told.boxes for told in raw], sizes, what=split)
    scored = any((told.scores < SURE).any() for told in raw)
    results, dropped, cut = [], 0, 0
    for study, boxes, told, size in zip(studies, corners, raw, sizes, strict=True):
        rest = {key: value for key, value in study.items() if key not in ("width", "height")}
        rest |= {"detected": scored and study["scores"] is not None, "told_size": size_told(study)}
        if not len(boxes):
            results.append({**rest, **WITHOUT})
            continue
        inside = np.clip(boxes, 0.0, [*size, *size])
        kept = (inside[:, 2:] - inside[:, :2] > 0).all(axis=1)  # MONAI's spatial_crop_boxes drops those below one pixel
        dropped += int((~kept).sum())
        cut += int((np.abs(inside - boxes)[kept] > SLACK).any(axis=1).sum())
        corners_inside, labels = inside[kept].astype(np.float32), list(compress(told.labels, kept))
        named = {"box_labels": labels, "lesions": _named(corners_inside, labels, size[0])}
        results.append({**rest, "boxes": corners_inside, "scores": told.scores[kept].astype(np.float32), **named})
    if dropped or cut:
        logger.warning(
            "%s: %d boxes without area in their image left out, %d cut off at its border", split, dropped, cut
        )
    return packed(results)


def _size_of(study: Mapping, check: bool) -> tuple[int, int]:
    """Width and height of a study's first image: as the entry has them, else as its file."""
    known = size_told(study)
    if known is not None:
        return known
    return image_size(study["images"][0]) if check else size_if_any(study["images"][0])


def _named(boxes: np.ndarray, labels: Sequence[str], width: float) -> str:
    centres = (boxes[:, 0] + boxes[:, 2]) / 2
    return ";".join(f"{side_of(x, width)}:{label}" for x, label in zip(centres, labels, strict=True) if label)


class CropRegionsd(Transform):
    """``crops``, uint8 (M, size, size), and ``extents``, float (M, 4), of the ``count`` top-scoring boxes of the
    first of ``images``; M may be 0.

    A region is cut from the image as stored and padded with its own mean to a square. ``extents`` are the square's
    corners, x1, y1, x2, y2, as shares of the image, 0 to 1; the padding may reach beyond.

    An image of another size than ``told_size`` is refused: whether the boxes were scaled with it is not known.

    The picture is handed on as :data:`common.transforms.views.OPENED`, so that regions and views decode it once; a JPEG
    file comes no finer than they need.

    Args:
        size: of a region, in pixels.
        views: side of the views that are loaded next, in pixels.

    Raises:
        ValueError: ``size`` is no multiple of 4, or below 48.
    """

    def __init__(self, *, count: int, size: int, views: int = 0) -> None:
        if size % 4 or size < 48:
            raise ValueError(f"region_size: {size} must be a multiple of 4, 48 at least")
        self.count, self.size, self.views = count, size, views

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        top = np.argsort(-data["scores"], kind="stable")[: self.count]
        crops, extents = np.zeros((len(top), self.size, self.size), np.uint8), np.zeros((len(top), 4), np.float32)
        opened = {}
        if len(top):
            path = data["images"][0]
            opened[path], boxes = self._open(data, data["boxes"][top])
            pixels = np.asarray(to_grey(opened[path]))
            for position, box in enumerate(boxes):
                crops[position], extents[position] = self._cut(pixels, box)
        return {**data, OPENED: opened, "crops": torch.from_numpy(crops), "extents": torch.from_numpy(extents)}

    def _open(self, data: Mapping[Hashable, Any], boxes: np.ndarray) -> tuple[Image.Image, np.ndarray]:
        """The picture, and ``boxes`` (M, 4) in its pixels, which are fewer than the file's where that suffices."""
        path: str = data["images"][0]
        told, where = data.get("told_size"), f"study {data.get('study')!r}"
        if Path(path).suffix.lower() not in JPEG:
            picture = open_image(path)
            require_size(picture.size, told, image=path, where=where)
            return picture, boxes
        size = image_size(path)
        require_size(size, told, image=path, where=where)
        longest = np.maximum(boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]).min()
        spare = max(1.0, float(longest) / (FINER * self.size))
        picture = open_image(path, least=max(FINER * self.views, math.ceil(min(size) / spare)))
        return picture, boxes * np.tile(np.array(picture.size) / size, 2)

    def _cut(self, pixels: np.ndarray, box: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        limit = np.array(pixels.shape[::-1])
        x1, y1 = np.clip(np.floor(box[:2]).astype(int), 0, limit - 1)
        x2, y2 = np.clip(np.ceil(box[2:]).astype(int), (x1 + 1, y1 + 1), limit)
        cut = pixels[y1:y2, x1:x2].astype(np.float32)
        side = max(cut.shape)
        square = np.full((side, side), cut.mean(), dtype=np.float32)
        top, left = (side - cut.shape[0]) // 2, (side - cut.shape[1]) // 2
        square[top : top + cut.shape[0], left : left + cut.shape[1]] = cut
        whole = Image.fromarray(square).resize((self.size, self.size), Image.Resampling.BILINEAR)
        start = np.array([x1 - left, y1 - top])
        return np.asarray(whole).round().astype(np.uint8), np.concatenate([start / limit, (start + side) / limit])


class StandardiseRegionsd(Transform, RandomizableTrait):
    """``regions``, float (R, 3, size, size), and ``region_mask``, bool (R,), in place of ``crops`` and ``extents``.

    Each region is standardised by its own mean and deviation (published; deviations below 0.01 count as 0.01). Not
    random: the trait keeps caches from holding floats and empty slots, forty times the bytes.

    Args:
        count: R.
        coordinates: the second and third channel hold each pixel's x and y in the image, -1 to 1, for
            :class:`d2rnet.report.regions.RegionEncoder`. False: all three are alike, as published.
    """

    def __init__(self, *, count: int, coordinates: bool) -> None:
        self.count, self.coordinates = count, coordinates

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        crops, size = data["crops"].float() / 255, data["crops"].shape[1]
        regions = torch.zeros(self.count, 3, size, size)
        mask = torch.arange(self.count) < len(crops)
        rest = {key: value for key, value in data.items() if key not in ("crops", "extents")}
        if not len(crops):
            return {**rest, "regions": regions, "region_mask": mask}
        mean, std = crops.mean((1, 2), keepdim=True), crops.std((1, 2), keepdim=True).clamp(min=0.01)
        regions[: len(crops)] = ((crops - mean) / std)[:, None]
        if self.coordinates:
            steps = (torch.arange(size) + 0.5) / size
            low, high = data["extents"][:, :2, None], data["extents"][:, 2:, None]
            x, y = (2 * (low + steps * (high - low)) - 1).unbind(1)  # (M, size) each
            regions[: len(crops), 1], regions[: len(crops), 2] = x[:, None], y[:, :, None]
        return {**rest, "regions": regions, "region_mask": mask}


class DescribeDetectionsd(Transform):
    """Add ``detections``: JSON of ``boxes`` (x, y, width, height), labels and scores, by falling score.

    One string can be put into a batch.
    """

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        entries = []
        for index in np.argsort(-data["scores"], kind="stable"):
            x1, y1, x2, y2 = (round(float(value), 1) for value in data["boxes"][index])
            box = [x1, y1, round(x2 - x1, 1), round(y2 - y1, 1)]
            score = round(float(data["scores"][index]), 4)
            entries.append({"label": data["box_labels"][index], "score": score, "box": box})
        return {**data, "detections": json.dumps(entries, ensure_ascii=False)}
