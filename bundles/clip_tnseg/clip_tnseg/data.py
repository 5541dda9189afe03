"""Images as CLIP wants them, and prompts as token ids."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from monai.data import Dataset
from monai.transforms import (
    Compose,
    EnsureTyped,
    GaussianSmooth,
    RandomizableTransform,
    RandScaleIntensityd,
    RandShiftIntensityd,
    RepeatChanneld,
    Resized,
    SelectItemsd,
    Transform,
)
from transformers import PreTrainedTokenizerBase

from common.cli.given import text_or_file
from common.datasets.layouts import list_each, read_dataset, truth_of
from common.datasets.phrases import PLAIN, TEMPLATE, prompt_of, with_phrases
from common.images.masks import CropNoduled
from common.text.tokenizer import ONE_AT_A_TIME
from common.transforms.augment import RandMirrorReportd, move_slightly, vary_ultrasound
from common.transforms.load import load_grey, standardise

from .taps import ReadTapsd, TapFiles

TOKENS = ("input_ids", "attention_mask")


def read_prompts(
    *, root: str, split: str, fixed_phrase: str | None = None, test_fold: int | None = None, check: bool = True
) -> list[dict]:
    """Cases of a data set with ``phrase``, ``prompt``, and ``source``, the path of the image.

    Args:
        fixed_phrase: an ablation: every image has this phrase.
        test_fold, check: as :func:`common.datasets.layouts.read_dataset` has them.
    """
    cases = read_dataset(root, split, test_fold=test_fold, check=check)
    cases = [{**case, "source": case["image"]} for case in cases]
    return with_phrases(cases if fixed_phrase is None else [{**case, "phrase": fixed_phrase} for case in cases])


def whole_image(*, size: int) -> list:
    """The image as CLIP sees it: stretched, rows first, the grey value three times, standardised."""
    return [*load_grey(size=size, rows_first=True), RepeatChanneld(keys="image", repeats=3), standardise()]


def pair_transforms(
    *, tokenizer: PreTrainedTokenizerBase, size: int, max_length: int, highlighted: float, augment: bool
) -> Compose:
    """An image with its prompt, for contrastive training.

    Args:
        highlighted: share of the images whose nodule is highlighted: which of several nodules a prompt means cannot be
            seen in a plain image, and visual prompts are highlighted, too.
        augment: vary brightness and contrast.
    """
    return Compose(
        [
            *load_grey(size=size, label=True, rows_first=True),
            TokenizePromptd(tokenizer, max_length=max_length),
            RandHighlightNoduled(prob=highlighted),
            *vary(factor=0.2, offset=0.1, prob=0.5 if augment else 0.0),
            SelectItemsd(keys=["image", *TOKENS]),
        ]
    )


class TokenizePromptd(Transform):
    """Add ``input_ids`` and ``attention_mask``, int64 (max_length,), of ``prompt``, which is cut if it is too long.

    Without a prompt, as in MONAI Label, that of ``phrase``; without it, of "thyroid nodule". Ids that are there
    already, without any of the two, stay.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, *, max_length: int = 77) -> None:
        self.tokenizer, self.max_length = tokenizer, max_length

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        if "input_ids" in data and not {"prompt", "phrase"} & set(data):  # made before, by the program that asks
            return dict(data)
        with ONE_AT_A_TIME:
            encoded = self.tokenizer(
                prompt_of(data),  # type: ignore[arg-type]
                padding="max_length",
                truncation=True,
                max_length=self.max_length,
                return_tensors="pt",
            )
        return {**data, **{key: encoded[key][0] for key in TOKENS}}


def training_transforms(
    *,
    tokenizer: PreTrainedTokenizerBase,
    size: int,
    max_length: int,
    cases: Sequence[dict],
    affine: float = 0.0,
    squares: bool = False,
) -> Compose:
    """The whole image, varied in what its phrase does not speak of: the scanner's looks, and side with its words.

    Args:
        cases: of which one becomes the visual prompt, :class:`RandVisualPromptd`.
        affine: share of :func:`common.transforms.augment.move_slightly`, for data sets of some hundred images.
        squares: as published: a random square with enough nodule, varied in brightness and contrast; a square moves the
            nodule in the image, so that words for its place no longer hold.
    """
    if squares:
        return _random_squares(tokenizer=tokenizer, size=size, max_length=max_length, cases=cases)
    keys = ["image", "label"]
    return Compose(
        [
            *load_grey(size=size, label=True, rows_first=True),
            EnsureTyped(keys=keys, track_meta=False),  # random transforms on plain tensors cost a fraction
            RandMirrorReportd(keys=keys, texts=("phrase", "prompt"), axis=2),
            *move_slightly(keys, size=size, share=affine),
            *vary_ultrasound(),
            RepeatChanneld(keys="image", repeats=3),
            standardise(),
            TokenizePromptd(tokenizer, max_length=max_length),
            RandVisualPromptd(cases),
            SelectItemsd(keys=["image", "label", "visual", *TOKENS]),
        ]
    )


def _random_squares(
    *, tokenizer: PreTrainedTokenizerBase, size: int, max_length: int, cases: Sequence[dict]
) -> Compose:
    return Compose(
        [
            *load_grey(size=None, label=True, rows_first=True),
            RandForegroundSquared(),
            Resized(keys=["image", "label"], spatial_size=(size, size), mode=["bilinear", "nearest"]),
            *vary(),
            TokenizePromptd(tokenizer, max_length=max_length),
            RandVisualPromptd(cases),
            SelectItemsd(keys=["image", "label", "visual", *TOKENS]),
        ]
    )


def cached_training_transforms(
    *, tokenizer: PreTrainedTokenizerBase, size: int, max_length: int, cases: Sequence[dict], taps: TapFiles
) -> Compose:
    """Whole images that stay in place, with ``taps`` from files.

    What stays random: brightness and contrast of what the fine branch sees, visual prompts and their weights.
    """
    return Compose(
        [
            *load_grey(size=size, label=True, rows_first=True),
            TokenizePromptd(tokenizer, max_length=max_length),
            *vary(),
            RandVisualPromptd(cases),
            ReadTapsd(taps),
            SelectItemsd(keys=["image", "label", "visual", "taps", *TOKENS]),
        ]
    )


def vary(*, factor: float = 0.1, offset: float = 0.05, prob: float = 0.5) -> list:
    """Vary contrast and brightness of some images, then three channels, standardised."""
    return [
        RandScaleIntensityd(keys="image", factors=factor, prob=prob),
        RandShiftIntensityd(keys="image", offsets=offset, prob=prob),
        RepeatChanneld(keys="image", repeats=3),
        standardise(),
    ]


def validation_transforms(
    *, tokenizer: PreTrainedTokenizerBase, size: int, max_length: int, taps: TapFiles | None = None
) -> Compose:
    """The whole image, stretched, with its prompt; and its taps where they are in files."""
    read = [] if taps is None else [ReadTapsd(taps)]
    return Compose(
        [
            *load_grey(size=size, label=True, rows_first=True),
            RepeatChanneld(keys="image", repeats=3),
            standardise(),
            TokenizePromptd(tokenizer, max_length=max_length),
            *read,
            SelectItemsd(
                keys=["image", "label", "case", "tirads", *(["taps"] if read else []), *TOKENS], allow_missing_keys=True
            ),
        ]
    )


class RandForegroundSquared(RandomizableTransform):
    """Cut a random square of the shorter side out of ``image`` and ``label`` (1, H, W), as published.

    Of at most ``tries`` squares the first with a share of nodule above ``share``, else the one with the largest share.
    """

    def __init__(self, *, share: float = 0.05, tries: int = 50) -> None:
        super().__init__(prob=1.0)
        self.share, self.tries = share, tries

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        height, width = data["label"].shape[1:]
        side, best, position = min(height, width), -1.0, (0, 0)
        for _ in range(self.tries):
            top, left = (int(self.R.randint(0, room - side + 1)) for room in (height, width))
            share = float(data["label"][0, top : top + side, left : left + side].mean())
            if share > best:
                best, position = share, (top, left)
            if best > self.share or height == width:
                break
        cut = {
            key: data[key][:, position[0] : position[0] + side, position[1] : position[1] + side]
            for key in ("image", "label")
        }
        return dict(data) | cut


class RandVisualPromptd(RandomizableTransform):
    """Add ``visual``, int64: the index in ``cases`` of another image with the same phrase; -1: there is none (4.3)."""

    def __init__(self, cases: Sequence[dict]) -> None:
        super().__init__(prob=1.0)
        self.groups: dict[str, list[int]] = defaultdict(list)
        for index, case in enumerate(cases):
            self.groups[case.get("phrase", PLAIN)].append(index)
        self.sources = [case.get("source", case["image"]) for case in cases]

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        group, source = self.groups[data.get("phrase", PLAIN)], data.get("source")
        others = [index for index in group if self.sources[index] != source]
        chosen = others[int(self.R.randint(len(others)))] if others else -1
        return {**data, "visual": torch.tensor(chosen)}


class RandHighlightNoduled(RandomizableTransform):
    """Blur the background of ``image`` (1, H, W) outside ``label`` and darken it to a tenth (4.3), in some images."""

    def __init__(self, *, prob: float = 1.0) -> None:
        super().__init__(prob=prob)
        self.blur = GaussianSmooth(sigma=3.0)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        self.randomize(None)
        if not self._do_transform:
            return dict(data)
        return {**data, "image": torch.where(data["label"] > 0, data["image"], 0.1 * self.blur(data["image"]))}


def visual_transforms(*, size: int) -> Compose:
    """An image as a visual prompt: its nodule highlighted, then the square around its box, 10 % wider."""
    return Compose(
        [
            *load_grey(size=None, label=True, rows_first=True),
            RandHighlightNoduled(),
            CropNoduled(margin=0.1),
            Resized(keys="image", spatial_size=(size, size), mode="bilinear", anti_aliasing=True),
            RepeatChanneld(keys="image", repeats=3),
            standardise(),
            SelectItemsd(keys="image"),
        ]
    )


def visual_prompts(*, cases: Sequence[dict], size: int) -> Dataset:
    """Each of ``cases`` as a visual prompt."""
    return Dataset(cases, transform=visual_transforms(size=size))


def inference_transforms(*, tokenizer: PreTrainedTokenizerBase, size: int, max_length: int) -> Compose:
    """The whole image with its prompt; the image keeps what :class:`monai.transforms.Invertd` needs."""
    return Compose([*whole_image(size=size), TokenizePromptd(tokenizer, max_length=max_length)])


def list_cases(
    *, image: str | None, phrase: str | None, data_dir: str | None, test_fold: int | None = None
) -> list[dict]:
    """What inference runs over: ``image`` (a file or a folder) with ``phrase``, by default "thyroid nodule".

    ``phrase`` is a text or the name of a text file. Without ``image``, the test split with its own phrases.

    Raises:
        FileNotFoundError: no such image; ``phrase`` ends in .txt and is no file.
    """
    if image is None:
        cases = read_prompts(root=str(data_dir), split="test", test_fold=test_fold)
        return [{key: case[key] for key in ("image", "phrase", "prompt")} | truth_of(case) for case in cases]
    named = (text_or_file(phrase, id="phrase") or "").strip() or PLAIN
    return [{"image": name, "phrase": named, "prompt": TEMPLATE.format(named)} for name in list_each(image)]
