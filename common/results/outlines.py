"""Outlines of masks as paths over their image, which the page's reader shows and hides."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
from contourpy import contour_generator
from PIL import Image

from common.images.files import open_image, to_grey
from common.images.masks import read_mask
from common.results.blocks import THUMBNAIL, Block, embedded

EACH = 2  # of the points of a path one in so many is kept


def outlines(folder: Path, entry: Mapping[str, Any]) -> Block | None:
    """The image of ``entry`` with the outlines of its mask and of the true one; None where one of them is not there."""
    if not isinstance(entry.get("truth"), str) or "mask" not in entry:
        return None
    try:
        image = to_grey(open_image(entry["image"]))
        masks = {"truth": read_mask(entry["truth"]), "prediction": read_mask(str(folder / entry["mask"]))}
    except (OSError, ValueError, KeyError):
        return None
    if any(mask.shape[::-1] != image.size for mask in masks.values()):
        return None
    image.thumbnail(THUMBNAIL, Image.Resampling.LANCZOS)
    layers = [{"name": name, "path": path_of(mask, image.size)} for name, mask in masks.items()]
    size = {"width": image.width, "height": image.height}
    return {"kind": "outlines", "source": embedded(image, quality=72), **size, "layers": layers,
            "link": quote(os.fsencode(entry.get("overlay", entry["mask"])))}  # fmt: skip


def path_of(mask: np.ndarray, size: tuple[int, int]) -> str:
    """The border of ``mask`` (H, W), shown at ``size`` (width, height), as the ``d`` of a path of SVG."""
    small = Image.fromarray(255 * mask.astype(np.uint8)).resize(size, Image.Resampling.BILINEAR)
    padded = np.pad(np.asarray(small, dtype=float), 1)
    lines = [np.asarray(line)[::EACH] - 0.5 for line in contour_generator(z=padded).lines(127.5)]
    return "".join("M" + "L".join(f"{x:.0f} {y:.0f}" for x, y in line) + "Z" for line in lines)
