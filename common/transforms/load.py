"""From a file to a tensor that a network takes: one list of transforms for every grey image and its mask."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.transforms import EnsureTyped, NormalizeIntensityd, Resized, ScaleIntensityRanged, Transform, Transposed

from common.images.masks import LoadMaskd
from common.images.reader import LoadGreyd

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, as published with every network here
STRIDE = 32  # of the deepest features


def check_size(size: int) -> None:
    """Refuse a ``size`` of images that the networks cannot take.

    Raises:
        ValueError: it is no multiple of 32.
    """
    if size % STRIDE:
        raise ValueError(f"image_size: {size} is no multiple of {STRIDE}; the deepest features have that stride")


def load_grey(
    *, size: int | None, label: bool | Transform = False, rows_first: bool = False, crop: Sequence[Transform] = ()
) -> list[Transform]:
    """Load ``image``, float32 (1, size, size) in [0, 1], and ``label`` in {0, 1} if wanted, stretched.

    Args:
        size: None: as large as the file.
        label: True, or the transform that loads it in place of :class:`common.images.masks.LoadMaskd`.
        rows_first: (1, H, W), as in the images that published weights were trained on; MONAI's reader gives (1, W, H).
        crop: transforms of the loaded image, before it is turned and resized.
    """
    keys = ["image", "label"] if label else ["image"]
    modes, smooth = ["bilinear", "nearest-exact"][: len(keys)], [True, False][: len(keys)]
    stretch = Resized(keys=keys, spatial_size=(size, size), mode=modes, anti_aliasing=smooth) if size else None
    return [
        LoadGreyd(),
        *([LoadMaskd() if label is True else label] if label else []),
        *crop,
        *([Transposed(keys=keys, indices=(0, 2, 1))] if rows_first else []),
        ScaleIntensityRanged(keys="image", a_min=0, a_max=255, b_min=0, b_max=1, clip=True),
        *([stretch] if stretch else []),
        EnsureTyped(keys=keys, dtype=torch.float32),
    ]


def standardise() -> NormalizeIntensityd:
    """Subtract ImageNet's mean from ``image`` (3, H, W) and divide by its deviation, channel by channel."""
    return NormalizeIntensityd(
        keys="image", subtrahend=torch.tensor(MEAN), divisor=torch.tensor(STD), channel_wise=True
    )
