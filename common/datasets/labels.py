"""Masks from whatever a reader gives as ``label``: a file, or polygons."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import LoadImage, Transform
from PIL import Image, ImageDraw

from common.datasets.grey_reader import GreyReader


def draw_polygons(polygons: list[list[list[float]]], size: tuple[int, int]) -> np.ndarray:
    """Fill ``polygons`` (x, y in pixels) into a boolean mask (H, W); ``size`` is (width, height)."""
    canvas = Image.new("1", size)
    for polygon in polygons:
        ImageDraw.Draw(canvas).polygon([(x, y) for x, y in polygon], fill=1, outline=1)
    return np.array(canvas)


class LoadMaskd(Transform):
    """MONAI dictionary transform: load the mask of ``image``, float32 (1, W, H) in {0, 1}; put it after the image.

    A file counts as foreground above half of its largest value: masks are stored as 0/1, as 0/255, and as JPEG.
    """

    def __init__(self, key: str = "label", *, image_key: str = "image") -> None:
        self.key, self.image_key = key, image_key
        self.load = LoadImage(reader=GreyReader(), image_only=True, ensure_channel_first=True)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        source = data[self.key]
        if isinstance(source, str):
            pixels = self.load(source)
            mask = (pixels > pixels.max() / 2) & (pixels > 0)
            return {**data, self.key: MetaTensor(mask.float(), meta=pixels.meta)}
        image = data[self.image_key]
        drawn = draw_polygons(source, tuple(image.shape[-2:]))
        return {**data, self.key: MetaTensor(torch.from_numpy(drawn.T.copy())[None].float(), meta=dict(image.meta))}
