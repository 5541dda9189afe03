"""Masks from a file or from polygons, and the square around what a mask covers."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.transforms import LoadImage, Transform
from PIL import Image, ImageDraw

from common.images.files import open_image, require_one_size, to_grey
from common.images.reader import GreyReader


class CropNoduled(Transform):
    """Cut ``keys`` (1, H, W) to the square around the foreground of ``label``, widened by ``margin`` of its side.

    The square is moved into the image where it crosses the border, and what is larger than the image is filled with
    black. An empty mask leaves the whole image, as does a negative ``margin``.
    """

    def __init__(self, *, margin: float = 0.1, keys: Sequence[str] = ("image",)) -> None:
        self.margin, self.keys = margin, keys

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        positions = (data["label"][0] > 0).nonzero()
        if len(positions) == 0 or self.margin < 0:
            return dict(data)
        low, high = positions.min(0).values, positions.max(0).values + 1
        side = math.ceil(float((high - low).max()) * (1 + 2 * self.margin))
        first, shape = [], data["image"].shape[1:]
        for axis in range(2):
            start = math.floor(float(low[axis] + high[axis] - side) / 2)
            first.append(min(max(start, 0), max(shape[axis] - side, 0)) if side <= shape[axis] else start)
        source = [slice(max(f, 0), min(f + side, n)) for f, n in zip(first, shape, strict=True)]
        target = [slice(s.start - f, s.stop - f) for f, s in zip(first, source, strict=True)]
        cut: dict[Hashable, Any] = {}
        for key in self.keys:
            cut[key] = data[key].new_zeros(data[key].shape[0], side, side)
            cut[key][:, target[0], target[1]] = data[key][:, source[0], source[1]]
        return {**data, **cut}


def draw_polygons(polygons: list[list[list[float]]], size: tuple[int, int]) -> np.ndarray:
    """Fill ``polygons`` (x, y in pixels) into a boolean mask (H, W); ``size`` is (width, height)."""
    canvas = Image.new("1", size)
    for polygon in polygons:
        ImageDraw.Draw(canvas).polygon([(x, y) for x, y in polygon], fill=1, outline=1)
    return np.array(canvas)


FEW = 16  # distinct values of a mask that numbers its nodules, and the most that noise adds to a background of 0


def foreground(pixels: np.ndarray) -> np.ndarray:
    """Which ``pixels`` of a mask, 0 to 255, belong to a nodule: the one rule for masks stored in any form.

    With few distinct values (0/1, 0/255, nodules numbered 1, 2, 3) all but the background 0; with many (JPEG, smooth
    edges) those above half of the largest.
    """
    values = np.unique(pixels)
    if len(values) > FEW:
        return pixels > pixels.max() / 2
    return pixels > (FEW if values[-1] > 2 * FEW else 0)


def read_mask(path: str) -> np.ndarray:
    """:func:`foreground` of a mask's file, boolean (H, W)."""
    return foreground(np.asarray(to_grey(open_image(path))))


def truth_in(case: Mapping) -> np.ndarray | None:
    """The true mask, (H, W), of a case that names its file as ``truth``."""
    return read_mask(case["truth"]) if "truth" in case else None


def truth_named(case: Mapping) -> dict[str, str]:
    """``truth``, the file of the true mask, of a case that names it; else nothing."""
    return {"truth": str(case["truth"])} if "truth" in case else {}


class LoadMaskd(Transform):
    """MONAI dictionary transform: load the mask of ``image``, float32 (1, W, H) in {0, 1}; put it after the image.

    :func:`foreground` says what counts.
    """

    def __init__(self, key: str = "label", *, image_key: str = "image") -> None:
        self.key, self.image_key = key, image_key
        self.load = LoadImage(reader=GreyReader(), image_only=True, ensure_channel_first=True)
        self.load.readers = self.load.readers[-1:]  # MONAI's others would read what ours refuses

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        source = data[self.key]
        if isinstance(source, str):
            pixels = self._read(source)
            image = data.get(self.image_key)
            if isinstance(image, MetaTensor):
                sizes = [tuple(map(int, part.shape[-2:])) for part in (image, pixels)]
                require_one_size(str(image.meta.get("filename_or_obj", "")), sizes[0], source, sizes[1])
            mask = torch.from_numpy(foreground(pixels.numpy()))
            return {**data, self.key: MetaTensor(mask.float(), meta=pixels.meta)}
        image = data[self.image_key]
        drawn = draw_polygons(source, tuple(image.shape[-2:]))
        return {**data, self.key: MetaTensor(torch.from_numpy(drawn.T.copy())[None].float(), meta=dict(image.meta))}

    def _read(self, path: str) -> MetaTensor:
        try:
            return self.load(path)  # type: ignore[return-value]
        except Exception:
            read_mask(path)  # raises our own line, which MONAI hides
            raise
