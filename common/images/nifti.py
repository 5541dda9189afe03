"""Two-dimensional images in NIfTI files, as made from DICOM: pictures with the file's place in space."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import torch
from monai.config import KeysCollection
from monai.transforms import MapTransform
from monai.utils import MetaKeys
from PIL import Image

SUFFIXES = (".nii", ".nii.gz")
HANDED_OVER = "handed_over"  # in an image's metadata: it came as an array, not as a file


def is_nifti(path: str | Path) -> bool:
    """Whether the file's name says NIfTI."""
    return Path(path).name.lower().endswith(SUFFIXES)


def slice_size(path: str) -> tuple[int, int]:
    """Width and height of the slice in ``path``; pixels are not read.

    Raises:
        ValueError: no NIfTI file, or one with several slices.
    """
    shape = _load(path).shape
    if len(shape) < 2 or any(length != 1 for length in shape[2:4]):
        raise ValueError(f"image: {path!r} has the shape {shape}; a single slice is expected, one file each")
    return int(shape[0]), int(shape[1])


def read_slice(path: str) -> tuple[Image.Image, np.ndarray]:
    """The slice in ``path`` with its affine matrix (4, 4): the file's first axis runs along the picture's rows.

    Whole numbers from 0 to 255 are kept, other values are left to :func:`common.images.files.to_grey`.

    Raises:
        ValueError: damaged, no NIfTI file, or one with several slices.
    """
    slice_size(path)
    image = _load(path)
    try:
        pixels = np.asarray(image.dataobj)
    except Exception as error:  # whatever nibabel and zlib make of damaged bytes
        raise ValueError(f"image: {path!r} is damaged ({error}); replace the file") from error
    if pixels.dtype.names:  # red, green, blue of each pixel
        pixels = np.stack([pixels[name] for name in pixels.dtype.names], axis=-1)
        return Image.fromarray(np.uint8(pixels.reshape(*pixels.shape[:2], -1).swapaxes(0, 1))), image.affine
    return picture_of(np.asarray(pixels, dtype=np.float32).reshape(pixels.shape[:2]).T), image.affine


def picture_of(pixels: np.ndarray) -> Image.Image:
    """``pixels`` (H, W) as a picture: of 8 bits where they are whole numbers from 0 to 255, else of floats."""
    eight = pixels.min() >= 0 and 1 < pixels.max() <= 255 and not (pixels % 1).any()
    return Image.fromarray(pixels.astype(np.uint8) if eight else pixels.astype(np.float32))


def picture_of_array(array: np.ndarray) -> Image.Image:
    """An image that a program hands over: rows and columns (H, W), or columns first with one slice (W, H, 1), as
    MONAI's readers and MONAI Deploy's DICOM reader arrange them.

    Raises:
        ValueError: another shape.
    """
    if array.ndim == 3 and array.shape[2] == 1:
        return picture_of(array[..., 0].T)
    if array.ndim == 2:
        return picture_of(array)
    raise ValueError(f"image: an array of shape {array.shape}; expected (H, W), or (W, H, 1) with columns first")


class AsSliced(MapTransform):
    """Masks (1, W, H) to (W, H), or to (W, H, 1) where ``image`` is a slice in NIfTI.

    MONAI Label writes masks with two axes without the image's place in space, and only such as PNG. Of an image that
    a program handed over the mask keeps a channel before the image's own axes, as MONAI Deploy expects.
    """

    def __init__(self, keys: KeysCollection, *, image: str = "image") -> None:
        super().__init__(keys)
        self.image = image

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        meta = data[self.image].meta
        slices = len(meta[MetaKeys.SPATIAL_SHAPE]) == 3
        if meta.get(HANDED_OVER):
            return {**data, **{key: data[key][..., None] if slices else data[key].mT for key in self.keys}}
        return {**data, **{key: data[key][0][..., None] if slices else data[key][0] for key in self.keys}}


def rows_first(pred: torch.Tensor) -> np.ndarray:
    """What :class:`AsSliced` gave, as a picture is seen: (H, W)."""
    columns_first = np.asarray(pred)
    return (columns_first[..., 0] if columns_first.ndim == 3 else columns_first).T


def rows_first_mask(pred: torch.Tensor) -> np.ndarray:
    """:func:`rows_first` of a mask, boolean."""
    return rows_first(pred).astype(bool)


def _load(path: str) -> nibabel.Nifti1Image:
    try:
        return nibabel.load(path)  # type: ignore[return-value]
    except FileNotFoundError as error:
        raise FileNotFoundError(f"image: no file {path!r}; pass an existing one") from error
    except Exception as error:  # whatever nibabel and zlib make of damaged bytes
        raise ValueError(f"image: {path!r} is damaged or no NIfTI file ({error}); replace it") from error
