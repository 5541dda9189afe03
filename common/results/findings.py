"""What a network says of an image, in words that every format of results can use, and its size in millimetres."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy.ndimage import binary_erosion, find_objects, label, mean
from scipy.spatial import ConvexHull
from scipy.spatial.distance import cdist

from common.images.dicom import pixel_spacing

MOST = 100  # nodules that are listed: more are specks


class Finding(NamedTuple):
    """What a network says of one image.

    Attributes:
        values: ``area_mm2, long_axis_mm, short_axis_mm, width_mm, height_mm``; probabilities ``malignant, calibrated,
            score``; ``expected_dice``; ``familiarity``.
        label: "nodule", or the class of a lesion.
        mask: boolean (H, W).
        box: x1, y1, x2, y2 in pixels.
        category: "benign", "malignant" or "absent".
        unsure: neither category is sure.
        unlike: the image is unlike the training images (:mod:`common.metrics.familiarity`).
        doubted: the report that guided the network may be another patient's.
    """

    values: Mapping[str, float] = {}
    label: str = "nodule"
    mask: np.ndarray | None = None
    box: Sequence[float] | None = None
    category: str | None = None
    unsure: bool = False
    unlike: bool = False
    doubted: bool = False


def measured(image: str, mask: np.ndarray) -> dict[str, float]:
    """:func:`mask_size` of ``mask`` (H, W) in the file ``image``; nothing where it does not tell its pixels' size."""
    spacing = pixel_spacing(image, centre_of(mask))
    return mask_size(mask, spacing) if spacing else {}


def mask_size(mask: np.ndarray, spacing: tuple[float, float]) -> dict[str, float]:
    """``area_mm2``, and of the largest connected piece ``long_axis_mm`` and ``short_axis_mm``, across the long one.

    Args:
        mask: boolean (H, W).
        spacing: height and width of a pixel in mm.
    """
    area = float(mask.sum()) * spacing[0] * spacing[1]
    if not mask.any():
        return {"area_mm2": 0.0, "long_axis_mm": 0.0, "short_axis_mm": 0.0}
    corners = _corners(_largest_piece(mask)) * np.array(spacing)
    hull = corners[ConvexHull(corners).vertices]
    distances = cdist(hull, hull)
    first, second = np.unravel_index(distances.argmax(), distances.shape)
    along = (hull[second] - hull[first]) / distances[first, second]
    across = hull @ np.array([-along[1], along[0]])
    sizes = {"area_mm2": area, "long_axis_mm": distances.max(), "short_axis_mm": np.ptp(across)}
    return {name: round(float(value), 2) for name, value in sizes.items()}


def confidence_of(mask: np.ndarray, probabilities: np.ndarray) -> float | None:
    """How sure a segmentation is, in [0, 1]: the Dice of ``mask`` (H, W) with its own ``probabilities`` (H, W).

    2 sum(p m) / (sum(p) + sum(m)), as Dice losses have it. It ranks images by how good their masks are; the Dice itself
    is lower, and :mod:`common.results.expected_dice` says by how much. None of an empty mask.
    """
    if not mask.any():
        return None
    return round(float(2 * probabilities[mask].sum() / (probabilities.sum() + mask.sum())), 4)


def nodules_of(mask: np.ndarray, probabilities: np.ndarray) -> list[dict[str, Any]]:
    """``box``, ``area_share`` and ``confidence`` of each connected piece of ``mask`` (H, W), the largest first.

    At most :data:`MOST` pieces. ``box`` is x1, y1, x2, y2 in pixels, ``confidence`` the mean of the piece's
    ``probabilities`` (H, W).
    """
    pieces, count = label(mask, structure=np.ones((3, 3)))
    if not count:
        return []
    sizes, boxes = np.bincount(pieces.ravel())[1:], find_objects(pieces)
    numbers = np.argsort(-sizes, kind="stable")[:MOST] + 1
    confidences = mean(probabilities, pieces, numbers)
    return [
        {
            "box": [columns.start, rows.start, columns.stop, rows.stop],
            "area_share": float(sizes[number - 1]) / mask.size,
            "confidence": round(float(confidence), 4),
        }
        for number, confidence in zip(numbers, confidences, strict=True)
        for rows, columns in [boxes[number - 1]]
    ]


def box_size(box: np.ndarray, image: str) -> dict[str, float]:
    """``width_mm`` and ``height_mm`` of ``box``, x1, y1, x2, y2 in pixels of the file ``image``, if that tells it."""
    spacing = pixel_spacing(image, (float(box[0] + box[2]) / 2, float(box[1] + box[3]) / 2))
    if spacing is None:
        return {}
    width, height = float(box[2] - box[0]) * spacing[1], float(box[3] - box[1]) * spacing[0]
    return {"width_mm": round(width, 2), "height_mm": round(height, 2)}


def centre_of(mask: np.ndarray) -> tuple[float, float] | None:
    """x, y of the middle of what ``mask`` (H, W) covers; None: nothing."""
    rows, columns = np.nonzero(mask)
    return (float(columns.mean()), float(rows.mean())) if len(rows) else None


def _largest_piece(mask: np.ndarray) -> np.ndarray:
    pieces, _ = label(mask, structure=np.ones((3, 3)))
    return pieces == 1 + int(np.bincount(pieces[pieces > 0])[1:].argmax())


def _corners(mask: np.ndarray) -> np.ndarray:
    """Corners (N, 2), row and column, of the covered pixels at the rim."""
    positions = np.argwhere(mask & ~binary_erosion(mask))
    return np.concatenate([positions + shift for shift in ([0, 0], [0, 1], [1, 0], [1, 1])])
