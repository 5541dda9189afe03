"""Boxes of several readers of one image made one."""

from __future__ import annotations

import numpy as np
from monai.data.box_utils import box_iou

OVERLAP = 0.5  # of two readers' boxes of one lesion


def fuse(boxes: np.ndarray, *, overlap: float = OVERLAP) -> np.ndarray:
    """Weighted boxes fusion (Solovyev et al. 2021) of several readers' boxes (M, 4) of one class, all weights equal.

    Boxes that overlap the mean of a group by more than ``overlap`` join it; each group gives its mean.
    """
    groups: list[list[np.ndarray]] = []
    for box in boxes:
        means = np.array([np.mean(group, axis=0) for group in groups]).reshape(-1, 4)
        likes = box_iou(box[None], means)[0]
        best = int(np.argmax(likes)) if groups else -1
        if best >= 0 and likes[best] > overlap:
            groups[best].append(box)
        else:
            groups.append([box])
    return np.array([np.mean(group, axis=0) for group in groups]).reshape(-1, 4)
