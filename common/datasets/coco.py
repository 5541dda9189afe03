"""Boxes in the forms of COCO: x, y, width, height, and the content of a file."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from monai.data.box_utils import convert_box_mode


def to_xywh(boxes: np.ndarray) -> np.ndarray:
    """Corners (M, 4) as x, y, width, height."""
    return convert_box_mode(boxes, "xyxy", "xywh")  # type: ignore[return-value]


def to_xyxy(boxes: np.ndarray) -> np.ndarray:
    """x, y, width, height (M, 4) as corners."""
    return convert_box_mode(boxes, "xywh", "xyxy")  # type: ignore[return-value]


def coco_of(entries: Sequence[dict], classes: Sequence[str]) -> dict:
    """Entries of an annotation with boxes as the content of a COCO file; categories are 1 to the number of classes."""
    images: list[dict] = []
    annotations: list[dict] = []
    for number, entry in enumerate(entries, start=1):
        size = {"height": entry["height"], "width": entry["width"]}
        images.append({"id": number, "file_name": entry["image_path"][0], **size})
        for box, label in zip(entry["boxes"], entry["box_labels"], strict=True):
            current = {"id": len(annotations) + 1, "image_id": number, "category_id": 1 + classes.index(label)}
            annotations.append({**current, "bbox": box, "area": round(box[2] * box[3], 2), "iscrowd": 0})
    categories = [{"id": number, "name": name} for number, name in enumerate(classes, start=1)]
    return {"images": images, "annotations": annotations, "categories": categories}
