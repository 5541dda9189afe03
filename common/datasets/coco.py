"""Boxes in the forms of COCO: x, y, width, height, and the content of a file."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from monai.data.box_utils import convert_box_mode

logger = logging.getLogger(__name__)


def to_xywh(boxes: np.ndarray) -> np.ndarray:
    """Corners (M, 4) as x, y, width, height."""
    return convert_box_mode(boxes, "xyxy", "xywh")  # type: ignore[return-value]


def to_xyxy(boxes: np.ndarray) -> np.ndarray:
    """x, y, width, height (M, 4) as corners."""
    return convert_box_mode(boxes, "xywh", "xyxy")  # type: ignore[return-value]


def id_of(value: object) -> str:
    """An id by its value: 7, 7.0 and "7" are one.

    Raises:
        TypeError: none is there, or no text and no number.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise TypeError(f"{value!r} is no id")
    if isinstance(value, str):
        return value.strip()
    return str(int(value)) if float(value).is_integer() else str(value)


def require_matched(images: Sequence[str], boxes: Mapping[str, Sequence], *, where: str) -> None:
    """Count boxes of images that a file does not list.

    Args:
        images: ids of its images.
        boxes: of each image's id.

    Raises:
        ValueError: an id stands twice, or no box belongs to any image.
    """
    twice = next((id for id, count in Counter(images).items() if count > 1), None)
    if twice is not None:
        raise ValueError(f"{where}: two images have the id {twice!r}; give each its own")
    known = set(images)
    orphans = {id: len(rows) for id, rows in boxes.items() if id not in known}
    if orphans and len(orphans) == len(boxes):
        raise ValueError(f"{where}: no box belongs to an image: image_id {next(iter(orphans))!r} is no id of an image")
    if orphans:
        logger.warning(
            "%s: %d boxes of %d images that it does not list, such as %r, are left out",
            where, sum(orphans.values()), len(orphans), next(iter(orphans)),
        )  # fmt: skip


def coco_of(entries: Sequence[dict], classes: Sequence[str]) -> dict:
    """Entries of an annotation with boxes as the content of a COCO file; categories are 1 to the number of classes."""
    images: list[dict] = []
    annotations: list[dict] = []
    for number, entry in enumerate(entries, start=1):
        size = {"height": entry["height"], "width": entry["width"]}
        images.append({"id": number, "file_name": entry["image_path"][0], **size})
        for box, label in zip(entry["boxes"], entry["box_labels"], strict=True):
            ids = {"id": len(annotations) + 1, "image_id": number, "category_id": 1 + classes.index(label)}
            annotations.append({**ids, "bbox": box, "area": round(box[2] * box[3], 2), "iscrowd": 0})
    categories = [{"id": number, "name": name} for number, name in enumerate(classes, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}
