"""Images with boxes on their way into the detector: which are learned from, and how they are seen.

A weak view is resized and perhaps mirrored; a strong view is the same cut, with contrast, blur and holes
(Unbiased Teacher v2, spec 5.8; jitter of colours has no meaning here).
"""

from __future__ import annotations

import hashlib
import logging
import math
import os
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.apps.detection.transforms.box_ops import flip_boxes
from monai.transforms import Compose, RandomizableTransform, Transform
from PIL import Image
from scipy.ndimage import gaussian_filter

from common.cli.reading import visible
from common.datasets.annotation import is_annotation
from common.datasets.boxes import has_split, read_boxes, split_images
from common.datasets.mimic import is_mimic
from common.datasets.studies import read_studies
from common.engine.caching import Cases
from common.images.files import WITH_DICOM, check_images, open_image, to_grey
from common.transforms.load import MEAN, STD, check_size

logger = logging.getLogger(__name__)
MISSING = -1  # bytes of a file that is not there, which is left out when it is loaded
HOLES = ((0.7, (0.05, 0.2), (0.3, 3.3)), (0.5, (0.02, 0.2), (0.1, 6.0)), (0.3, (0.02, 0.2), (0.05, 8.0)))


def training_cases(
    root: str, *, classes: Sequence[str], share: float = 1.0, unlabelled_dir: str | None = None, check: bool = True
) -> dict[str, list[dict]]:
    """``labelled`` and ``unlabelled`` images of the training split.

    No image of the validation or test split is among them, whatever its name: files of equal content are left out and
    counted in the log.

    Args:
        share: of the training images whose boxes are used; the others count as unlabelled. Chosen by file name.
        unlabelled_dir: more images: a COCO file of split ``unlabel``, an annotation of studies (whose training split
            is taken), or any folder of images.
        check: look at the images (:func:`common.images.files.check_images`).

    Raises:
        FileNotFoundError: no such folder.
        ValueError: ``share`` is not in 0 to 1, or leaves no image.
    """
    cases = read_boxes(root, "train", classes=classes, check=check)
    training = sorted(cases, key=lambda case: _mark(str(Path(case["image"]).relative_to(root))))
    count = round(share * len(training))
    if not 0 < share <= 1 or not count:
        raise ValueError(f"labelled_share: {share} of {len(training)} images is none; pass more than 0, up to 1")
    more = [] if unlabelled_dir is None else [{"image": path} for path in _images(unlabelled_dir, check)]
    unlabelled = [{"image": case["image"]} for case in training[count:]] + more
    held_out = [image for split in ("val", "test") for image in split_images(root, split)]
    return {
        "labelled": _unlike(training[:count], held_out, "labelled", check),
        "unlabelled": _unlike(unlabelled, held_out, "unlabelled", check),
    }


def _images(folder: str, check: bool) -> list[str]:
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"unlabelled_dir: no folder {folder!r}; pass an existing one")
    if has_split(folder, "unlabel"):
        images = split_images(folder, "unlabel")
    elif is_mimic(Path(folder)) or any(map(is_annotation, visible(folder, "*.json"))):
        images = [path for study in read_studies(folder, "train", views=99, check=False) for path in study["images"]]
    else:
        images = sorted(str(path) for path in Path(folder).rglob("*") if path.suffix.lower() in WITH_DICOM)
    if check:
        check_images(images, root=folder)
    if not images:
        raise ValueError(f"unlabelled_dir: {folder!r} holds no image with any of {WITH_DICOM}")
    return images


def _unlike(cases: list[dict], held_out: list[str], kind: str, check: bool) -> list[dict]:
    """``cases`` without those whose file has the bytes of one of ``held_out``; only files of equal size are read."""
    paths = [*held_out, *(case["image"] for case in cases)]
    size_of = {path: os.stat(path).st_size if check or os.path.isfile(path) else MISSING for path in paths}
    shared = {size_of[path] for path in held_out} & {size_of[case["image"]] for case in cases}
    shared.discard(MISSING)
    known = {_digest(path) for path in held_out if size_of[path] in shared}
    kept = [c for c in cases if size_of[c["image"]] not in shared or _digest(c["image"]) not in known]
    if len(kept) < len(cases):
        logger.warning(
            "%s: %d of %d images are validation or test images, too, and are left out",
            kind, len(cases) - len(kept), len(cases),
        )  # fmt: skip
    return kept


def _digest(path: str) -> str:
    return hashlib.md5(Path(path).read_bytes(), usedforsecurity=False).hexdigest()


def _mark(name: str) -> str:
    return hashlib.md5(name.encode(), usedforsecurity=False).hexdigest()


def epoch_length(learned: Mapping[str, Sequence[dict]]) -> int:
    """Images of the longer list of :func:`training_cases`."""
    return max(map(len, learned.values()))


class LoadSquared(Transform):
    """``image``, a path, to ``pixels``, uint8 (size, size): scaled to fit, black to the right or below.

    ``boxes`` are scaled alike; ``factor`` is the scale, canvas pixels an image pixel, ``size`` the image's width and
    height. ``image`` stays.
    """

    def __init__(self, *, size: int) -> None:
        check_size(size)
        self.size = size

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        grey = to_grey(open_image(data["image"]))
        factor = self.size / max(grey.size)
        results = {**data, "pixels": on_canvas(grey, factor, self.size), "factor": factor, "size": grey.size}
        if "boxes" in data:
            results["boxes"] = torch.from_numpy(np.asarray(data["boxes"], dtype=np.float32) * np.float32(factor))
            results["labels"] = torch.from_numpy(np.asarray(data["labels"], dtype=np.int64))
        return results


def on_canvas(grey: Image.Image, factor: float, size: int) -> np.ndarray:
    """``grey`` scaled by ``factor`` in the upper left of a black square, uint8 (size, size)."""
    width, height = (max(1, round(side * factor)) for side in grey.size)
    canvas = np.zeros((size, size), dtype=np.uint8)
    scaled = grey.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=3.0)
    canvas[:height, :width] = np.asarray(scaled)[:size, :size]
    return canvas


class RandFlipZoomd(RandomizableTransform):
    """Mirror ``pixels`` and ``boxes`` with probability ``flip``, and scale them by a factor of ``zoom`` to 1."""

    def __init__(self, *, flip: float, zoom: float) -> None:
        super().__init__(prob=1.0)
        self.flip, self.zoom = flip, zoom

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        size = data["pixels"].shape[0]
        factor, mirrored = float(self.R.uniform(self.zoom, 1.0)), self.R.rand() < self.flip
        pixels = on_canvas(Image.fromarray(data["pixels"]), factor, size)
        results = {**data, "pixels": pixels[:, ::-1].copy() if mirrored else pixels}
        if "boxes" in data:
            boxes = data["boxes"] * factor
            results["boxes"] = flip_boxes(boxes, (size, size), flip_axes=0) if mirrored else boxes
        return results


class RandStrongd(RandomizableTransform):
    """``weak`` and ``strong``, float32 (3, size, size), standardised, of ``pixels``.

    Strong: brightness and contrast by 0.6 to 1.4 (probability 0.8), blur (0.5; deviation 0.1 to 2), up to three
    holes of noise.
    """

    def __init__(self) -> None:
        super().__init__(prob=1.0)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        weak = data["pixels"].astype(np.float32) / 255
        rest = {key: value for key, value in data.items() if key not in ("pixels", "factor", "size", "image")}
        return {**rest, "weak": standardised(weak), "strong": standardised(self._strong(weak))}

    def _strong(self, pixels: np.ndarray) -> np.ndarray:
        if self.R.rand() < 0.8:
            pixels = np.clip(pixels * self.R.uniform(0.6, 1.4), 0, 1)
            mean = pixels.mean()
            pixels = np.clip(mean + (pixels - mean) * self.R.uniform(0.6, 1.4), 0, 1)
        if self.R.rand() < 0.5:
            pixels = gaussian_filter(pixels, self.R.uniform(0.1, 2.0))
        pixels = pixels.astype(np.float32)
        for chance, areas, ratios in HOLES:
            if self.R.rand() < chance:
                self._hole(pixels, areas, ratios)
        return pixels

    def _hole(self, pixels: np.ndarray, areas: tuple[float, float], ratios: tuple[float, float]) -> None:
        """Fill a rectangle with noise, in place; one that does not fit is cut."""
        size = len(pixels)
        area = size * size * self.R.uniform(*areas)
        ratio = math.exp(self.R.uniform(math.log(ratios[0]), math.log(ratios[1])))
        height, width = min(size - 1, round(math.sqrt(area * ratio))), min(size - 1, round(math.sqrt(area / ratio)))
        top, left = int(self.R.randint(size - height)), int(self.R.randint(size - width))
        pixels[top : top + height, left : left + width] = self.R.rand(height, width)


class StandardisePixelsd(Transform):
    """``image_tensor``, float32 (3, size, size), standardised, in place of ``pixels``."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        rest = {key: value for key, value in data.items() if key != "pixels"}
        return {**rest, "image_tensor": standardised(data["pixels"].astype(np.float32) / 255)}


def standardised(pixels: np.ndarray) -> torch.Tensor:
    """(H, W) in 0 to 1 to (3, H, W) with ImageNet's mean and deviation."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
    return (torch.from_numpy(pixels)[None] - mean) / std


def training_transforms(*, size: int, flip: float, zoom: float) -> Compose:
    """``weak``, ``strong``, and, where there are, ``boxes`` and ``labels``; cut alike."""
    return Compose([LoadSquared(size=size), RandFlipZoomd(flip=flip, zoom=zoom), RandStrongd()])


def whole_transforms(*, size: int) -> Compose:
    """``image_tensor``, ``factor``, and what the case has."""
    return Compose([LoadSquared(size=size), StandardisePixelsd()])


class PairedDataset(torch.utils.data.Dataset):
    """Labelled and unlabelled images side by side: ``labelled`` and, where there are any, ``unlabelled``.

    Args:
        count: items of an epoch; either list begins anew when it ends.
    """

    def __init__(self, labelled: Sequence[dict], unlabelled: Sequence[dict], count: int) -> None:
        self.labelled, self.unlabelled, self.count = labelled, unlabelled, count

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict:
        item = {"labelled": _drawn(self.labelled, index)}
        if len(self.unlabelled):
            item["unlabelled"] = _drawn(self.unlabelled, index)
        return item


def _drawn(dataset: Any, number: int) -> dict:
    """The case ``number`` of a data set that begins anew when it ends, where it can with other random numbers."""
    return dataset.drawn(number) if isinstance(dataset, Cases) else dataset[number % len(dataset)]
