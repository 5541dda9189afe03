"""The square around a nodule."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

from monai.transforms import Transform


class CropNoduled(Transform):
    """Cut ``image`` (1, H, W) to the square around the foreground of ``label``, widened by ``margin`` of its side.

    The square is moved into the image where it crosses the border, and what is larger than the image is filled with
    black. An empty mask leaves the whole image, as does a negative ``margin``.
    """

    def __init__(self, *, margin: float = 0.1) -> None:
        self.margin = margin

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        places = (data["label"][0] > 0).nonzero()
        if len(places) == 0 or self.margin < 0:
            return dict(data)
        low, high = places.min(0).values, places.max(0).values + 1
        side = math.ceil(float((high - low).max()) * (1 + 2 * self.margin))
        square = data["image"].new_zeros(data["image"].shape[0], side, side)
        first, shape = [], data["image"].shape[1:]
        for axis in range(2):
            start = math.floor(float(low[axis] + high[axis] - side) / 2)
            first.append(min(max(start, 0), max(shape[axis] - side, 0)) if side <= shape[axis] else start)
        source = [slice(max(f, 0), min(f + side, n)) for f, n in zip(first, shape, strict=True)]
        target = [slice(s.start - f, s.stop - f) for f, s in zip(first, source, strict=True)]
        square[:, target[0], target[1]] = data["image"][:, source[0], source[1]]
        return {**data, "image": square}
