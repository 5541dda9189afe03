"""Views of a study: loaded and stacked with a mask, cut at random, standardised."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.transforms import RandomizableTransform, Transform
from PIL import Image

from common.images.files import open_image, to_grey
from common.transforms.load import MEAN, STD

logger = logging.getLogger(__name__)
FINER = 2  # times the wanted side, below which no JPEG is decoded: to 0.2 grey levels of the whole
OPENED = "opened"  # key of pictures by their paths that another transform has decoded already
MARGIN = 256 / 224  # an image is loaded larger by this factor, to be cropped at random (spec: Resize 256, crop 224)


class LoadViewsd(Transform):
    """``images``, up to ``views`` paths, to ``image``, uint8 (views, 3, side, side), and ``view_mask``, bool (views,).

    Images are stretched to a square, as published for validation; missing views are black. Where all views are grey the
    three channels are one in memory. A picture in :data:`OPENED`, :data:`FINER` times ``side`` at least, is not decoded
    again.
    """

    def __init__(self, *, views: int, side: int) -> None:
        self.views, self.side = views, side

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        rest = {key: value for key, value in data.items() if key != OPENED}
        opened = data.get(OPENED, {})
        seen = [self._load(path, opened.get(path)) for path in data["images"][: self.views]]
        channels = max((len(view) for view in seen), default=1)
        missing = [torch.zeros(channels, self.side, self.side, dtype=torch.uint8)] * (self.views - len(seen))
        views = [view.expand(channels, -1, -1) for view in seen]
        mask = torch.arange(self.views) < len(seen)
        image = torch.stack([*views, *missing]).expand(-1, 3, -1, -1)
        return {**rest, "image": image, "view_mask": mask}

    def _load(self, path: str, opened: Image.Image | None) -> torch.Tensor:
        image = open_image(path, least=FINER * self.side) if opened is None else opened
        deep = image.mode[0] in "IF"  # 16 or 32 bits, which convert would clip to white
        picture = to_grey(image) if deep else image if image.mode == "L" else image.convert("RGB")
        picture = picture.resize((self.side, self.side), Image.Resampling.BILINEAR, reducing_gap=3.0)
        return torch.from_numpy(np.array(picture).reshape(self.side, self.side, -1)).permute(2, 0, 1).contiguous()


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
