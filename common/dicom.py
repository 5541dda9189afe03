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

    Values go through the modality's look-up table; what the display's window spans (or its look-up table gives; without
    either, what the image holds) becomes 0 to 255; inverted images (MONOCHROME1) are turned, so that bone is white.

    Raises:
        ValueError: no DICOM image, a damaged one, or a compression that no installed decoder reads.
    """
    data = _read(path, pixels=True)
    try:
        pixels = data.pixel_array
        pixels = pixels[0] if int(data.get("NumberOfFrames") or 1) > 1 else pixels
        if int(data.get("SamplesPerPixel") or 1) == 3:
            return Image.fromarray(np.uint8(pixels))
        return Image.fromarray(_displayed(pixels, data))
    except (AttributeError, TypeError, ValueError, RuntimeError, NotImplementedError, OSError, EOFError) as error:
        raise ValueError(f"image: {path!r} is damaged, or no decoder is installed for it ({error})") from error


def _displayed(pixels: np.ndarray, data) -> np.ndarray:  # type: ignore[no-untyped-def]
    from pydicom.pixels import apply_modality_lut, apply_voi_lut

    grey = np.asarray(apply_modality_lut(pixels, data), dtype=np.float64)
    centre, width = (_first(data.get(name)) for name in ("WindowCenter", "WindowWidth"))
    if "VOILUTSequence" in data:
        grey = np.asarray(apply_voi_lut(apply_modality_lut(pixels, data), data), dtype=np.float64)
    low, high = grey.min(), grey.max()
    if "VOILUTSequence" not in data and centre is not None and width:
        low, high = centre - width / 2, centre + width / 2
    scaled = np.clip((grey - low) / max(high - low, 1e-12), 0, 1)
    inverted = data.get("PhotometricInterpretation") == "MONOCHROME1"
    return np.round(255 * (1 - scaled if inverted else scaled)).astype(np.uint8)


def _first(value) -> float | None:  # type: ignore[no-untyped-def]
    """The first of one or several numbers."""
    if value is None or value == "":
        return None
    return float(value[0] if isinstance(value, (list, tuple)) or hasattr(value, "append") else value)


def _read(path: str, *, pixels: bool):  # type: ignore[no-untyped-def]
    try:
        import pydicom
    except ImportError as error:
        raise ValueError(f"image: {path!r} is DICOM, which needs pydicom; pip install pydicom") from error
    try:
        return pydicom.dcmread(path, stop_before_pixels=not pixels)
    except (pydicom.errors.InvalidDicomError, OSError, EOFError, ValueError, KeyError) as error:
        raise ValueError(f"image: {path!r} is damaged or no DICOM file ({error}); replace it") from error
