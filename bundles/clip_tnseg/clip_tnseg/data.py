"""Images as CLIP wants them, and prompts as token ids."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.data import PILReader
from monai.transforms import (
    Compose,
    EnsureTyped,
    GaussianSmooth,
    LoadImaged,
    NormalizeIntensityd,
    RandomizableTransform,
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

from common.datasets.crop import CropNoduled
from common.datasets.files import to_grey
from common.datasets.labels import LoadMaskd
from common.datasets.layouts import list_images, read_dataset
from common.datasets.phrases import PLAIN, TEMPLATE, with_phrases

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


def training_transforms(
    *, tokenizer: PreTrainedTokenizerBase, size: int, max_length: int, cases: Sequence[dict]
) -> Compose:
    """A random square with enough nodule, its prompt, and a visual prompt out of ``cases``."""
    return Compose(
        [
            VisualPromptd(cases, size=size),
            *load_pair(size=None),
            RandForegroundSquared(),
            Resized(keys=["image", "label"], spatial_size=(size, size), mode=["bilinear", "nearest"]),
            RandScaleIntensityd(keys="image", factors=0.1, prob=0.5),
            RandShiftIntensityd(keys="image", offsets=0.05, prob=0.5),
            RepeatChanneld(keys="image", repeats=3),
            standardise(),
            TokenizePromptd(tokenizer, max_length=max_length),
            SelectItemsd(keys=["image", "label", "visual", "has_visual", *TOKENS]),
        ]
    )


def validation_transforms(*, tokenizer: PreTrainedTokenizerBase, size: int, max_length: int) -> Compose:
    """The whole image, stretched, with its prompt."""
    return Compose(
        [
            *load_pair(size=size),
            RepeatChanneld(keys="image", repeats=3),
            standardise(),
            TokenizePromptd(tokenizer, max_length=max_length),
            SelectItemsd(keys=["image", "label", *TOKENS]),
        ]
    )


def load_pair(*, size: int | None) -> list:
    """Load ``image`` in [0, 1] and ``label`` in {0, 1}, float32 (1, H, W), stretched to ``size`` if one is given."""
    keys = ["image", "label"]
    stretch = []
    if size is not None:
        modes, smooth = ["bilinear", "nearest-exact"], [True, False]
        stretch = [Resized(keys=keys, spatial_size=(size, size), mode=modes, anti_aliasing=smooth)]
    return [
        LoadImaged(keys="image", reader=PILReader(converter=to_grey), ensure_channel_first=True),  # type: ignore[arg-type]
        LoadMaskd(),
        Transposed(keys=keys, indices=(0, 2, 1)),
        ScaleIntensityRanged(keys="image", a_min=0, a_max=255, b_min=0, b_max=1, clip=True),
        *stretch,
        EnsureTyped(keys=keys, dtype=torch.float32),
    ]


class RandForegroundSquared(RandomizableTransform):
    """Cut a random square of the shorter side out of ``image`` and ``label`` (1, H, W), as published.

    Of at most ``tries`` squares the first with a share of nodule above ``share``, else the one with the largest share.
    """

    def __init__(self, *, share: float = 0.05, tries: int = 50) -> None:
        super().__init__(prob=1.0)
        self.share, self.tries = share, tries

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        height, width = data["label"].shape[1:]
        side, best, place = min(height, width), -1.0, (0, 0)
        for _ in range(self.tries):
            top, left = (int(self.R.randint(0, room - side + 1)) for room in (height, width))
            share = float(data["label"][0, top : top + side, left : left + side].mean())
            if share > best:
                best, place = share, (top, left)
            if best > self.share or height == width:
                break
        cut = {key: data[key][:, place[0] : place[0] + side, place[1] : place[1] + side] for key in ("image", "label")}
        return dict(data) | cut


class VisualPromptd(RandomizableTransform):
    """Add ``visual``, float32 (3, size, size): another image with the same phrase, its nodule highlighted (4.3).

    The background is blurred and darkened to a tenth; then the square around the nodule's box, 10 % wider.
    ``has_visual`` is 0 where no other image has the phrase.
    """

    def __init__(self, cases: Sequence[dict], *, size: int) -> None:
        super().__init__(prob=1.0)
        self.size, self.groups = size, defaultdict(list)
        for case in cases:
            self.groups[case["phrase"]].append(case)
        self.load = Compose([*load_pair(size=None)])
        self.finish = Compose(
            [
                CropNoduled(margin=0.1),
                Resized(keys="image", spatial_size=(size, size), mode="bilinear", anti_aliasing=True),
                RepeatChanneld(keys="image", repeats=3),
                standardise(),
            ]
        )
        self.blur = GaussianSmooth(sigma=3.0)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        others = [case for case in self.groups[data["phrase"]] if case["image"] != data["image"]]
        if not others:
            return {**data, "visual": torch.zeros(3, self.size, self.size), "has_visual": torch.tensor(0.0)}
        other = self.load(others[int(self.R.randint(len(others)))])
        mask = other["label"] > 0
        lit = torch.where(mask, other["image"], 0.1 * self.blur(other["image"]))
        shown = self.finish({"image": lit, "label": other["label"]})["image"]
        return {**data, "visual": shown.as_tensor(), "has_visual": torch.tensor(1.0)}


def inference_transforms(*, tokenizer: PreTrainedTokenizerBase, size: int, max_length: int) -> Compose:
    """The whole image, stretched, with its prompt; the image keeps what :class:`monai.transforms.Invertd` needs."""
    return Compose(
        [
            LoadImaged(keys="image", reader=PILReader(converter=to_grey), ensure_channel_first=True),  # type: ignore[arg-type]
            Transposed(keys="image", indices=(0, 2, 1)),
            ScaleIntensityRanged(keys="image", a_min=0, a_max=255, b_min=0, b_max=1, clip=True),
            Resized(keys="image", spatial_size=(size, size), mode="bilinear", anti_aliasing=True),
            EnsureTyped(keys="image", dtype=torch.float32),
            RepeatChanneld(keys="image", repeats=3),
            standardise(),
            TokenizePromptd(tokenizer, max_length=max_length),
        ]
    )


def list_cases(*, image: str | None, phrase: str | None, data_dir: str | None) -> list[dict]:
    """What inference runs over: ``image`` (a file or a folder) with ``phrase``, by default "thyroid nodule".

    Without ``image``, the test split with its own phrases.

    Raises:
        FileNotFoundError: no such image.
    """
    if image is None:
        cases = read_prompts(root=str(data_dir), split="test")
        return [{key: case[key] for key in ("image", "phrase", "prompt")} for case in cases]
    named = phrase or PLAIN
    return [{"image": name, "phrase": named, "prompt": TEMPLATE.format(named)} for name in list_images(image)]
