"""Transforms of studies: several views stacked with a mask, the report as token ids; and what inference lists."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import RandomizableTransform, Transform
from PIL import Image

from common.datasets.files import WITH_DICOM, image_files, open_image, to_grey
from common.datasets.layouts import list_images
from common.datasets.studies import read_studies
from common.failures import FAILURES, line_of
from common.report_tokenizer import SentenceTokenizer, encode_report

logger = logging.getLogger(__name__)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, as published
MARGIN = 256 / 224  # an image is loaded larger by this factor, to be cropped at random (spec: Resize 256, crop 224)


class LoadViewsd(Transform):
    """``images``, up to ``views`` paths, to ``image``, uint8 (views, 3, side, side), and ``view_mask``, bool (views,).

    Images are stretched to a square, as published for validation; missing views are black.
    """

    def __init__(self, *, views: int, side: int) -> None:
        self.views, self.side = views, side

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        seen = [self._load(path) for path in data["images"][: self.views]]
        missing = [torch.zeros(3, self.side, self.side, dtype=torch.uint8)] * (self.views - len(seen))
        mask = torch.arange(self.views) < len(seen)
        return {**data, "image": torch.stack([*seen, *missing]), "view_mask": mask}

    def _load(self, path: str) -> torch.Tensor:
        image = open_image(path)
        deep = image.mode[0] in "IF"  # 16 or 32 bits, which convert would clip to white
        colour = (to_grey(image) if deep else image).convert("RGB")
        colour = colour.resize((self.side, self.side), Image.Resampling.BILINEAR, reducing_gap=3.0)
        return torch.from_numpy(np.array(colour)).permute(2, 0, 1).contiguous()


class RandCropViewsd(RandomizableTransform):
    """Cut a random square of ``size`` out of each view, mirror some."""

    def __init__(self, *, size: int, mirror: float) -> None:
        super().__init__(prob=1.0)
        self.size, self.mirror = size, mirror

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        return {**data, "image": torch.stack([self._cut(view) for view in data["image"]])}

    def _cut(self, view: torch.Tensor) -> torch.Tensor:
        room = view.shape[1] - self.size + 1
        top, left = int(self.R.randint(room)), int(self.R.randint(room))
        cut = view[:, top : top + self.size, left : left + self.size]
        return cut.flip(2) if self.R.rand() < self.mirror else cut


class StandardiseViewsd(Transform):
    """``image`` from uint8 to float32, ImageNet's mean subtracted, divided by its deviation."""

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        mean, std = (torch.tensor(values)[:, None, None] for values in (MEAN, STD))
        return {**data, "image": (data["image"].float() / 255 - mean) / std}


class TokenizeTargetd(Transform):
    """Add ``input_ids`` (begin and the report) and ``target_ids`` (the report and end), int64 (max_length,), padded.

    A longer report is cut after its last sentence that fits, so that its end is still an end; a first sentence that is
    too long alone is cut where the places end. The first cut is logged.
    """

    def __init__(self, tokenizer: SentenceTokenizer, *, max_length: int, begin_id: int, end_id: int) -> None:
        self.tokenizer, self.max_length, self.begin_id, self.end_id = tokenizer, max_length, begin_id, end_id
        self.warned = False

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        encoded = encode_report(self.tokenizer, data["report"], self.max_length - 1)
        ids, last = encoded.input_ids, encoded.spans[-1][1] if encoded.spans else 0
        if not self.warned and any(c.isalnum() for c in data["report"][last:]):
            self.warned = True
            logger.warning(
                "report longer than max_length=%d tokens: cut before %r; further cuts are not reported",
                self.max_length, data["report"][last : last + 40],
            )  # fmt: skip
        padding = [0] * (self.max_length - 1 - len(ids))
        return {
            **data,
            "input_ids": torch.tensor([self.begin_id, *ids, *padding]),
            "target_ids": torch.tensor([*ids, self.end_id, *padding]),
        }


def check_size(size: int) -> None:
    """Refuse a ``size`` of images that the networks cannot take.

    Raises:
        ValueError: it is no multiple of 32.
    """
    if size % 32:
        raise ValueError(f"image_size: {size} is no multiple of 32; the deepest features have stride 32")


def _images_of(path: Path, *, alone: bool) -> list[str]:
    """Images of a study; none, named as the run ends, where one of them is damaged and other studies go on."""
    try:
        images = list_images(str(path))
        for image in images if not alone else ():
            to_grey(open_image(image))
        return images
    except Exception as error:  # whatever Pillow and pydicom make of damaged bytes, the other studies are done
        if alone:
            raise
        FAILURES.add(str(path), f"study {path.name!r}: {line_of(error)}")
        return []


def list_studies(*, image: str | None, data_dir: str | None, views: int, annotation: str | None = None) -> list[dict]:
    """What inference runs over: ``study`` and ``images`` of each study.

    Args:
        image: a file, a folder whose images are the views of one study, or a folder of such folders; None: the test
            split of ``data_dir``. A folder with images of its own is one study, whatever folders it holds.

    Raises:
        FileNotFoundError: no such image.
        ValueError: no study can be read; one of several that cannot is left out and named as the run ends.
    """
    if image is None:
        found = read_studies(str(data_dir), "test", views=views, annotation=annotation)
        return [{key: study[key] for key in ("study", "images")} for study in found]
    FAILURES.take()  # of a listing before that no run finished
    whole = Path(image)
    folders = [whole]
    if whole.is_dir() and not image_files(whole, WITH_DICOM):
        folders = sorted(path for path in whole.iterdir() if path.is_dir()) or folders
    names = [path.name if path.is_dir() else path.stem for path in folders]
    studies = [
        {"study": name, "images": images}
        for name, path in zip(names, folders, strict=True)
        if (images := _images_of(path, alone=len(folders) == 1))
    ]
    if not studies:
        raise ValueError(next(iter(FAILURES.take().values())))
    for study in studies:
        if len(study["images"]) > views:
            logger.warning("%s: %d images, the first %d are read", study["study"], len(study["images"]), views)
    return [{**study, "images": study["images"][:views]} for study in studies]
