"""DICOM images as pictures: one frame, as its values are meant to be seen. Nothing of the header is passed on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

SUFFIXES = (".dcm", ".dicom")


def is_dicom(path: str | Path) -> bool:
    """Whether the file's name says DICOM."""
    return Path(path).suffix.lower() in SUFFIXES


def dicom_size(path: str) -> tuple[int, int]:
    """Width and height of the DICOM image ``path``; pixels are not read.

    Raises:
        ValueError: no DICOM image.
    """
    header = _read(path, pixels=False)
    try:
        return int(header.Columns), int(header.Rows)
    except AttributeError as error:
        raise ValueError(f"image: {path!r} is a DICOM file without an image; remove its entry") from error


def read_dicom(path: str) -> Image.Image:
    """The first frame of the DICOM image ``path``: 8-bit grey, or colour.

    Values go through the modality's and the display's look-up tables or window; inverted images (MONOCHROME1) are
    turned, so that bone is white; what the window spans becomes 0 to 255.

    Raises:
        ValueError: no DICOM image, a damaged one, or a compression that no installed decoder reads.
    """
    from pydicom.pixels import apply_modality_lut, apply_voi_lut

    data = _read(path, pixels=True)
    try:
        pixels = data.pixel_array
    except (AttributeError, ValueError, RuntimeError, NotImplementedError, OSError, EOFError) as error:
        raise ValueError(f"image: {path!r} is damaged, or no decoder is installed for it ({error})") from error
    colour = int(data.get("SamplesPerPixel", 1)) == 3
    pixels = pixels[0] if int(data.get("NumberOfFrames", 1)) > 1 else pixels
    if colour:
        return Image.fromarray(np.uint8(pixels))
    grey = np.asarray(apply_voi_lut(apply_modality_lut(pixels, data), data), dtype=np.float64)
    low, high = grey.min(), grey.max()
    scaled = (grey - low) / max(high - low, 1e-12)
    inverted = data.get("PhotometricInterpretation") == "MONOCHROME1"
    return Image.fromarray(np.uint8(np.round(255 * (1 - scaled if inverted else scaled))))


def _read(path: str, *, pixels: bool):  # type: ignore[no-untyped-def]
    try:
        import pydicom
    except ImportError as error:
        raise ValueError(f"image: {path!r} is DICOM, which needs pydicom; pip install pydicom") from error
    try:
        return pydicom.dcmread(path, stop_before_pixels=not pixels)
    except (pydicom.errors.InvalidDicomError, OSError, EOFError, ValueError, KeyError) as error:
        raise ValueError(f"image: {path!r} is damaged or no DICOM file ({error}); replace it") from error
