"""What happens to a nodule on its way into the network, alike in training, evaluation and inference."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.data import PILReader
from monai.transforms import (
    Compose,
    EnsureTyped,
    LoadImaged,
    RandFlipd,
    RandRotated,
    RandScaleIntensityd,
    RandShiftIntensityd,
    Resized,
    ScaleIntensityRanged,
    SelectItemsd,
    Transform,
    Transposed,
)

from common.datasets.files import to_grey
from common.datasets.labels import LoadMaskd
from common.datasets.layouts import list_images, read_dataset


def load_nodule(*, size: int, margin: float, with_mask: bool) -> list:
    """Load ``image``, float32 (1, size, size) in [0, 1]: the square around its mask ``label``, or the whole image.

    Rows come first, as in the images that published weights were trained on; MONAI's reader gives columns first.
    """
    return [
        LoadImaged(keys="image", reader=PILReader(converter=to_grey), ensure_channel_first=True),  # type: ignore[arg-type]
        *([LoadMaskd(), CropNoduled(margin=margin)] if with_mask else []),
        Transposed(keys="image", indices=(0, 2, 1)),
        ScaleIntensityRanged(keys="image", a_min=0, a_max=255, b_min=0, b_max=1, clip=True),
        Resized(keys="image", spatial_size=(size, size), mode="bilinear", anti_aliasing=True),
        EnsureTyped(keys="image", dtype=torch.float32),
    ]


def training_transforms(*, size: int, margin: float) -> Compose:
    """Load, then flip, turn by up to 10 degrees, and vary brightness and contrast."""
    return Compose(
        [
            *load_nodule(size=size, margin=margin, with_mask=True),
            EnsureTyped(keys="image", track_meta=False),  # random transforms on plain tensors cost a fraction
            RandFlipd(keys="image", prob=0.5, spatial_axis=1),
            RandRotated(keys="image", prob=0.5, range_x=math.radians(10), padding_mode="border"),
            RandScaleIntensityd(keys="image", factors=0.2, prob=0.5),
            RandShiftIntensityd(keys="image", offsets=0.1, prob=0.5),
            SelectItemsd(keys=["image", "malignancy"]),
        ]
    )


def validation_transforms(*, size: int, margin: float) -> Compose:
    """Load; ``case`` names whose nodule it is."""
    return Compose(
        [*load_nodule(size=size, margin=margin, with_mask=True), SelectItemsd(keys=["image", "malignancy", "case"])]
    )


def inference_transforms(*, size: int, margin: float, with_mask: bool) -> Compose:
    """Load; without masks the image is taken to be a nodule's crop."""
    return Compose([*load_nodule(size=size, margin=margin, with_mask=with_mask), SelectItemsd(keys=["image"])])


class CropNoduled(Transform):
    """Cut ``image`` (1, W, H) to the square around the foreground of ``label``, widened by ``margin`` of its side.

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


def list_cases(*, image: str | None, mask: str | None, data_dir: str | None) -> list[dict]:
    """What inference runs over: ``image``, a file or a folder, with masks of the same names in ``mask``, if given.

    Without ``image``, the test split.

    Raises:
        FileNotFoundError: no such image or mask.
    """
    if image is None:
        return [{"image": case["image"], "label": case["label"]} for case in read_dataset(str(data_dir), "test")]
    images = list_images(image)
    if mask is None:
        return [{"image": name} for name in images]
    masks = list_images(mask)
    if len(masks) != len(images):
        raise FileNotFoundError(f"mask: {len(masks)} in {mask!r} for {len(images)} images; give one each, in one order")
    return [{"image": name, "label": label} for name, label in zip(images, masks, strict=True)]
