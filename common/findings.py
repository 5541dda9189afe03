"""What a network says of an image, in words that every format of results can use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np


class Finding(NamedTuple):
    """What a network says of one image.

    Attributes:
        values: ``area_mm2, long_axis_mm, short_axis_mm, width_mm, height_mm``; probabilities ``malignant, score``.
        label: what was found: "nodule", the class of a lesion.
        mask: boolean (H, W).
        box: x1, y1, x2, y2 in pixels.
        category: "benign", "malignant" or "absent".
    """

    values: Mapping[str, float] = {}
    label: str = "nodule"
    mask: np.ndarray | None = None
    box: Sequence[float] | None = None
    category: str | None = None
