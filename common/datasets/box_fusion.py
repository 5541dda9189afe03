"""Boxes of several readers of one image made one."""

from __future__ import annotations

import numpy as np

OVERLAP = 0.5  # of two readers' boxes of one lesion


def fuse(boxes: np.ndarray, *, overlap: float = OVERLAP) -> np.ndarray:
    """Weighted boxes fusion (Solovyev et al. 2021) of several readers' boxes (M, 4) of one class, all weights equal.

    Boxes that overlap the mean of a group by more than ``overlap`` join it; each group gives its mean.
    """
    groups: list[list[np.ndarray]] = []
    for box in boxes:
        likes = [_iou(box, np.mean(group, axis=0)) for group in groups]
        best = int(np.argmax(likes)) if likes else -1
        if best >= 0 and likes[best] > overlap:
            groups[best].append(box)
        else:
            groups.append([box])
    return np.array([np.mean(group, axis=0) for group in groups]).reshape(-1, 4)


def _iou(first: np.ndarray, second: np.ndarray) -> float:
    low, high = np.maximum(first[:2], second[:2]), np.minimum(first[2:], second[2:])
    shared = float(np.prod(np.clip(high - low, 0, None)))
    areas = sum(float(np.prod(box[2:] - box[:2])) for box in (first, second))
    return shared / max(areas - shared, 1e-12)
