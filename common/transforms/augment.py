"""Augmentation of images that come with a report: what moves the image must change the words."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.transforms import (
    RandAdjustContrastd,
    RandAffined,
    RandGaussianSmoothd,
    RandomizableTransform,
    RandScaleIntensityd,
    RandShiftIntensityd,
    Transform,
)

from common.text.sides import PAIRS, swap_sides


def vary_ultrasound(*, prob: float = 0.5) -> list[Transform]:
    """What changes from scanner to scanner: gamma, gain, brightness, sharpness and speckle of ``image`` in [0, 1]."""
    return [
        RandAdjustContrastd(keys="image", prob=prob, gamma=(0.7, 1.5)),
        RandScaleIntensityd(keys="image", factors=0.2, prob=prob),
        RandShiftIntensityd(keys="image", offsets=0.1, prob=prob),
        RandGaussianSmoothd(keys="image", sigma_x=(0.25, 1.0), sigma_y=(0.25, 1.0), prob=prob / 2),
        RandSpeckled(keys="image", std=0.15, prob=prob / 2),
    ]


def move_slightly(keys: list[str], *, size: int, share: float) -> list[Transform]:
    """Rotate images and masks by up to ``share`` radians, zoom by up to ``share``, shift by up to half of it.

    At 0.2 the report's words stay true; 0: nothing is moved.
    """
    if share == 0:
        return []
    moved = RandAffined(
        keys=keys,
        prob=0.8,
        rotate_range=share,
        scale_range=(share, share),
        translate_range=share * size / 2,
        mode=["bilinear", "nearest"],
        padding_mode="zeros",
        cache_grid=True,
        spatial_size=(size, size),
    )
    return [moved]


class RandSpeckled(RandomizableTransform):
    """Multiply each pixel of some images by a random factor around 1, as speckle does.

    Args:
        std: standard deviation of the factor at most.
    """

    def __init__(self, keys: str, *, std: float, prob: float) -> None:
        super().__init__(prob)
        self.key, self.std = keys, std

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        self.randomize(None)
        if not self._do_transform:
            return dict(data)
        image: torch.Tensor = data[self.key]
        factors = self.R.normal(1.0, self.R.uniform(0, self.std), tuple(image.shape))
        return {**data, self.key: image * torch.from_numpy(factors).to(image.dtype)}


class RandMirrorReportd(RandomizableTransform):
    """Mirror left and right of ``keys`` (C, W, H) and swap the words for the sides in the report.

    A mirrored left lobe is a right lobe, so a mirrored image with swapped words is a plausible case. Put it before the
    report is tokenized.

    Args:
        pairs: words that change places, by :func:`common.text.sides.swap_sides`.
        texts: entries that hold words; missing ones stay so.
        axis: of ``keys``, across which left and right lie; 2 where rows come first.
    """

    def __init__(
        self,
        keys: Sequence[str],
        *,
        prob: float = 0.5,
        pairs: Sequence[tuple[str, str]] = PAIRS,
        texts: Sequence[str] = ("report",),
        axis: int = 1,
    ) -> None:
        super().__init__(prob)
        self.keys, self.texts, self.axis, self.pairs = keys, texts, axis, pairs

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        self.randomize(None)
        if not self._do_transform:
            return result
        for key in self.keys:
            result[key] = result[key].flip(self.axis)
        for text in (text for text in self.texts if result.get(text)):
            result[text] = swap_sides(str(result[text]), self.pairs)
        return result
