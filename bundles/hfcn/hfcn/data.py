"""What happens to a nodule on its way into the network, alike in training, evaluation and inference."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from monai.transforms import (
    Compose,
    EnsureTyped,
    RandFlipd,
    RandRotated,
    SelectItemsd,
    Transform,
)

from common.datasets.layouts import is_sound, list_each, list_files, list_images, read_dataset
from common.datasets.malignancy import malignancy
from common.engine.failures import FAILURES
from common.images.files import check_pairs, stem_of
from common.images.masks import CropNoduled, LoadMaskd
from common.transforms.augment import vary_ultrasound
from common.transforms.load import load_grey


class LoadMaskIfAnyd(LoadMaskd):
    """The mask ``label`` of a case; ones, of the size of ``image`` (1, W, H), for a case without one."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        if data.get(self.key) is not None:
            return super().__call__(data)
        return {**data, self.key: torch.ones_like(data[self.image_key])}


class CropIfMaskedd(CropNoduled):
    """Leave an image whole whose mask is 1 everywhere: nothing is known of where its nodule is."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        return dict(data) if data["label"].min() > 0 else super().__call__(data)


def load_nodule(*, size: int, margin: float) -> list[Transform]:
    """Load ``image`` and its mask ``label``, both cut to the square around the nodule and stretched to ``size``.

    An image without a mask is taken to be a nodule's crop, its mask is 1 everywhere.
    """
    crop = [CropIfMaskedd(margin=margin, keys=["image", "label"])]
    return load_grey(size=size, label=LoadMaskIfAnyd(), rows_first=True, crop=crop)


class JoinMaskd(Transform):
    """Make ``image`` (2, H, W): the image, and its mask ``label`` as the second channel."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        return {**data, "image": torch.cat([data["image"], data["label"]])}


def training_transforms(*, size: int, margin: float) -> Compose:
    """Load, vary the scanner's looks, then flip and turn by up to 10 degrees."""
    return Compose(
        [
            *load_nodule(size=size, margin=margin),
            EnsureTyped(
                keys=["image", "label"], track_meta=False
            ),  # random transforms on plain tensors cost a fraction
            *vary_ultrasound(),
            JoinMaskd(),
            RandFlipd(keys="image", prob=0.5, spatial_axis=1),
            RandRotated(keys="image", prob=0.5, range_x=math.radians(10), padding_mode="border"),
            SelectItemsd(keys=["image", "malignancy"]),
        ]
    )


def validation_transforms(*, size: int, margin: float) -> Compose:
    """Load; ``case`` names whose nodule it is."""
    return Compose(
        [*load_nodule(size=size, margin=margin), JoinMaskd(), SelectItemsd(keys=["image", "malignancy", "case"])]
    )


def inference_transforms(*, size: int, margin: float) -> Compose:
    """Load; the result keeps the path of its file."""
    return Compose(
        [
            *load_nodule(size=size, margin=margin),
            JoinMaskd(),
            SelectItemsd(keys=["image", "truth"], allow_missing_keys=True),
        ]
    )


def truth_of(case: dict) -> str:
    """The class that the data set tells: "benign", "malignant", or "unknown"."""
    known = malignancy(case)
    return "unknown" if known is None else ("benign", "malignant")[known]


def list_cases(
    *, image: str | None, mask: str | None, data_dir: str | None, test_fold: int | None = None
) -> list[dict]:
    """What inference runs over: ``image``, a file or a folder, with masks of the same names in ``mask``, if given.

    Without ``image``, the test split.

    Raises:
        FileNotFoundError: no such image or mask.
    """
    if image is None:
        cases = read_dataset(str(data_dir), "test", test_fold=test_fold)
        return [{"image": case["image"], "label": case["label"], "truth": truth_of(case)} for case in cases]
    if mask is None:
        return [{"image": name} for name in list_each(image)]
    if not Path(mask).exists():
        raise FileNotFoundError(f"mask: no file or folder {mask!r}; pass --mask FILE_OR_FOLDER")
    pairs = list(pair_files(image, mask))
    sound = [pair for pair in pairs if len(pairs) == 1 or all(is_sound(file) for file in pair)]
    if not sound:
        raise ValueError(next(iter(FAILURES.take().values())))
    return check_pairs(
        [{"image": name, "label": label} for files in sound for name, label in _frames_with_masks(*files)]
    )


def _frames_with_masks(image: Path, mask: Path) -> Iterator[tuple[str, str]]:
    """Each frame of ``image`` with that of ``mask``.

    Raises:
        ValueError: they have not as many.
    """
    frames, masks = list_images(str(image)), list_images(str(mask))
    if len(frames) != len(masks):
        raise ValueError(
            f"mask: {str(mask)!r} has {len(masks)} pictures, {str(image)!r} has {len(frames)} frames; pass a mask for "
            "each, or one frame alone"
        )
    return zip(frames, masks, strict=True)


def pair_files(image: str, mask: str) -> Iterator[tuple[Path, Path]]:
    """Files of ``image`` with those of ``mask`` that have their names; a single file with a single file.

    Raises:
        FileNotFoundError: an image has no mask, or a mask no image.
        ValueError: two files of a folder have one name.
    """
    FAILURES.take()  # of a listing before that no run finished
    images, masks = list_files(image), list_files(mask)
    if Path(image).is_file() and Path(mask).is_file():
        return zip(images, masks, strict=True)
    image_of, mask_of = _by_name(images, id="image"), _by_name(masks, id="mask")
    alone = [*(image_of.keys() - mask_of.keys()), *(mask_of.keys() - image_of.keys())]
    if alone:
        lacking, folder = ("mask", mask) if alone[0] in image_of else ("image", image)
        raise FileNotFoundError(
            f"{lacking}: {folder!r} has no file named {min(alone)!r}; {len(alone)} files are without a partner"
        )
    return iter([(file, mask_of[name]) for name, file in image_of.items()])


def _by_name(files: list[Path], *, id: str) -> dict[str, Path]:
    """Files by their names without suffix, and without the ``_mask`` that results have."""
    named: dict[str, Path] = {}
    for file in files:
        name = unicodedata.normalize("NFC", stem_of(str(file))).removesuffix("_mask")
        if name in named:
            raise ValueError(f"{id}: {named[name].name!r} and {file.name!r} have one name; keep one")
        named[name] = file
    return named
