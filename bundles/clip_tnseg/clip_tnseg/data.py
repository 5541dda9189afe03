"""Images as CLIP wants them, and prompts as token ids."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.data import PILReader
from monai.transforms import (
    Compose,
    EnsureTyped,
    LoadImaged,
    NormalizeIntensityd,
    RandScaleIntensityd,
    RandShiftIntensityd,
    RepeatChanneld,
    Resized,
    ScaleIntensityRanged,
    SelectItemsd,
    Transform,
    Transposed,
)
from transformers import PreTrainedTokenizerBase

from common.datasets.files import to_grey
from common.datasets.layouts import read_dataset
from common.datasets.phrases import with_phrases

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, as published; not CLIP's own
TOKENS = ("input_ids", "attention_mask")


def read_prompts(*, root: str, split: str) -> list[dict]:
    """Cases of a data set with ``phrase`` and ``prompt``."""
    return with_phrases(read_dataset(root, split))


def load_image(*, size: int) -> list:
    """Load ``image``, float32 (3, size, size) in [0, 1], rows first as CLIP was trained; the grey value three times."""
    return [
        LoadImaged(keys="image", reader=PILReader(converter=to_grey), ensure_channel_first=True),  # type: ignore[arg-type]
        Transposed(keys="image", indices=(0, 2, 1)),
        ScaleIntensityRanged(keys="image", a_min=0, a_max=255, b_min=0, b_max=1, clip=True),
        Resized(keys="image", spatial_size=(size, size), mode="bilinear", anti_aliasing=True),
        EnsureTyped(keys="image", dtype=torch.float32, track_meta=False),
        RepeatChanneld(keys="image", repeats=3),
    ]


def standardise() -> NormalizeIntensityd:
    """Subtract ImageNet's mean and divide by its deviation, channel by channel."""
    return NormalizeIntensityd(
        keys="image", subtrahend=torch.tensor(MEAN), divisor=torch.tensor(STD), channel_wise=True
    )


def pair_transforms(*, tokenizer: PreTrainedTokenizerBase, size: int, max_length: int, augment: bool) -> Compose:
    """An image with its prompt, for contrastive training; ``augment`` varies brightness and contrast."""
    varied = [
        RandScaleIntensityd(keys="image", factors=0.2, prob=0.5),
        RandShiftIntensityd(keys="image", offsets=0.1, prob=0.5),
    ]
    return Compose(
        [
            *load_image(size=size),
            *(varied if augment else []),
            standardise(),
            TokenizePromptd(tokenizer, max_length=max_length),
            SelectItemsd(keys=["image", *TOKENS]),
        ]
    )


class TokenizePromptd(Transform):
    """Add ``input_ids`` and ``attention_mask``, int64 (max_length,), of ``prompt``, which is cut if it is too long."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, max_length: int = 77) -> None:
        self.tokenizer, self.max_length = tokenizer, max_length

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        encoded = self.tokenizer(
            data["prompt"], padding="max_length", truncation=True, max_length=self.max_length, return_tensors="pt"
        )
        return {**data, **{key: encoded[key][0] for key in TOKENS}}
