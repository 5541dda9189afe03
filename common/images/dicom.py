"""DICOM images as pictures: single frames, as their values are meant to be seen, and the size of their pixels.

A frame of a multi-frame file has a name of its own, ``clip.frame0003.dcm`` for the third frame of ``clip.dcm``, which
every function here takes and no file bears. Of the header nothing but sizes is passed on, not even in error messages.
"""

from __future__ import annotations

import re
import warnings
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from common.images.ranges import content_range

SUFFIXES = (".dcm", ".dicom")
OTHERS = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".nii", ".gz", ".json", ".csv", ".txt", ".xml", ".html")
PREAMBLE = 128  # bytes before the letters DICM
LARGEST = 256 << 20  # bytes of a deflated file in memory
CENTIMETRES = 3  # of PhysicalUnitsXDirection, DICOM PS3.3 C.8.5.5.1.15
TISSUE = 1  # of RegionDataType, C.8.5.5.1.3
_FRAME = re.compile(r"(.+)\.frame(\d+)\.dcm")


def is_dicom(path: str | Path) -> bool:
    """Whether the file's name says DICOM or, where it says nothing (``IM0001``, ``1.2.840.1``), its first bytes."""
    file = Path(path)
    suffix = file.suffix.lower()
    if suffix in SUFFIXES or suffix in OTHERS:
        return suffix in SUFFIXES
    if not file.is_file():
        return False
    with open(file, "rb") as stream:
        return stream.read(PREAMBLE + 4)[PREAMBLE:] == b"DICM"


def source_of(path: str) -> tuple[str, int]:
    """The file that holds ``path``, and the index of the frame, from 0."""
    results = _FRAME.fullmatch(path)
    if results is None or Path(path).is_file():
        return path, 0
    names = (results[1] + suffix for kind in SUFFIXES for suffix in (kind, kind.upper(), f".{kind[1:].title()}", ""))
    return next((name for name in names if Path(name).is_file()), path), int(results[2]) - 1


def frame_names(path: str) -> list[str]:
    """The file itself, or a name for each frame of a multi-frame file, and of one whose name does not say DICOM.

    Raises:
        ValueError: no DICOM image.
    """
    frames = _frames(read_header(path), path)
    suffix = Path(path).suffix if Path(path).suffix.lower() in SUFFIXES else ""
    stem = path.removesuffix(suffix)
    return [path] if frames == 1 and suffix else [f"{stem}.frame{frame:04}.dcm" for frame in range(1, frames + 1)]


def dicom_size(path: str) -> tuple[int, int]:
    """Width and height of the DICOM image ``path``; pixels are not read.

    Raises:
        FileNotFoundError: the file has no such frame.
        ValueError: no DICOM image.
    """
    header = read_header(path)
    frames = _frames(header, path)
    try:
        size = int(header.Columns), int(header.Rows)
    except Exception as error:  # the values are decoded only now
        raise ValueError(f"image: {path!r} is a DICOM file without an image; remove its entry") from error
    if not 0 <= source_of(path)[1] < frames:
        raise FileNotFoundError(f"image: no frame {path!r}; the file has {frames}")
    return size


def read_dicom(path: str) -> Image.Image:
    """One frame (the first, where ``path`` names none): 8-bit grey, or colour.

    Grey values go through the modality's look-up table; what the display's window spans (or its look-up table gives;
    without either, what the image holds) becomes 0 to 255; inverted images (MONOCHROME1) are turned, so that bone is
    white. Padding is black. YBR and palette colours become RGB.

    Raises:
        ValueError: no DICOM image, a damaged one, or a compression that no installed decoder reads.
    """
    from pydicom.pixels import apply_color_lut, pixel_array

    data = _read(path, pixels=True)
    try:
        with warnings.catch_warnings():  # a warning may quote the header
            warnings.simplefilter("ignore")
            pixels = pixel_array(data, index=source_of(path)[1])
            if data.PhotometricInterpretation == "PALETTE COLOR":
                return Image.fromarray(_eight_bits(apply_color_lut(pixels, data)))
            if int(data.get("SamplesPerPixel") or 1) == 3:
                return Image.fromarray((pixels >> max(0, int(data.BitsStored) - 8)).astype(np.uint8))
            return Image.fromarray(_displayed(pixels, data))
    except Exception as error:  # whatever pydicom and its decoders make of damaged bytes
        reason = type(error).__name__
        raise ValueError(f"image: {path!r} is damaged, or no decoder is installed for it ({reason})") from error


def pixel_spacing(path: str, point: tuple[float, float] | None = None) -> tuple[float, float] | None:
    """Height and width of a pixel in mm, None where the file tells neither.

    From Pixel Spacing, else the calibrated ultrasound region, else the detector's Imager Pixel Spacing, which
    takes no account of magnification.

    Args:
        point: x, y in pixels: of several ultrasound regions the one around it; None: the largest region of tissue.
    """
    if not is_dicom(path):
        return None
    header = read_header(path)
    plain, detector = (_pair(header, name) for name in ("PixelSpacing", "ImagerPixelSpacing"))
    return plain or _region_spacing(header, point) or detector


def _pair(header: Any, name: str) -> tuple[float, float] | None:
    """Two positive numbers, None where the header holds anything else."""
    try:
        first, second = (float(value) for value in header.get(name) or ())
    except (TypeError, ValueError):
        return None
    return (first, second) if _is_size(first) and _is_size(second) else None


def _is_size(millimetres: float) -> bool:
    """Whether a pixel can be as large; headers hold zeros, infinities and everything between."""
    return 1e-6 < millimetres < 1e4


def _region_spacing(header: Any, point: tuple[float, float] | None) -> tuple[float, float] | None:
    """Of the ultrasound regions in centimetres, the one around ``point``; else the largest of tissue."""
    size = (int(header.get("Columns") or 0), int(header.get("Rows") or 0))
    regions = [r for r in header.get("SequenceOfUltrasoundRegions") or [] if _is_calibrated(r, size)]
    if point is not None:
        regions = [r for r in regions if _holds(r, point)]
    if not regions:
        return None
    best = max(regions, key=lambda r: (r.get("RegionDataType") == TISSUE, _area(r, size)))
    return 10 * abs(float(best.PhysicalDeltaY)), 10 * abs(float(best.PhysicalDeltaX))


def _is_calibrated(region: Any, size: tuple[int, int]) -> bool:
    """Whether ``region`` covers something of the image, in centimetres; not one with several values for one."""
    try:
        return _in_centimetres(region) and _area(region, size) > 0
    except (TypeError, ValueError):
        return False


def _in_centimetres(region: Any) -> bool:
    units = [region.get(f"PhysicalUnits{axis}Direction") for axis in "XY"]
    deltas = [float(region.get(f"PhysicalDelta{axis}") or 0) for axis in "XY"]
    return units == [CENTIMETRES, CENTIMETRES] and all(_is_size(10 * abs(delta)) for delta in deltas)


def _bounds(region: Any) -> list[int]:
    names = ("MinX0", "MinY0", "MaxX1", "MaxY1")
    return [int(region.get(f"RegionLocation{name}") or 0) for name in names]


def _holds(region: Any, point: tuple[float, float]) -> bool:
    left, top, right, bottom = _bounds(region)
    return left <= point[0] <= right and top <= point[1] <= bottom


def _area(region: Any, size: tuple[int, int]) -> int:
    """Pixels of the region inside an image of ``size``, width and height."""
    left, top, right, bottom = _bounds(region)
    return max(0, min(right, size[0]) - max(left, 0)) * max(0, min(bottom, size[1]) - max(top, 0))


def burned_in(path: str) -> bool | None:
    """Whether the file says that text is burned into its pixels; None: it does not say."""
    value = read_header(path).get("BurnedInAnnotation") if is_dicom(path) else None
    return {"YES": True, "NO": False}.get(str(value))


def read_header(path: str) -> Any:
    """The ``pydicom.Dataset`` of the file that holds ``path``, without pixels.

    Raises:
        ValueError: damaged, or no DICOM file.
    """
    return _read(path, pixels=False)


def _frames(header: Any, path: str) -> int:
    try:
        return max(1, int(header.get("NumberOfFrames") or 1))
    except Exception as error:  # the value is decoded only now
        raise ValueError(f"image: {path!r} is damaged: it has no number of frames; replace it") from error


def _displayed(pixels: np.ndarray, data: Any) -> np.ndarray:
    from pydicom.pixels import apply_modality_lut, apply_voi_lut

    grey = np.asarray(apply_modality_lut(pixels, data), dtype=np.float64)
    centre, width = (_first(data.get(name)) for name in ("WindowCenter", "WindowWidth"))
    if "VOILUTSequence" in data:
        grey = np.asarray(apply_voi_lut(apply_modality_lut(pixels, data), data), dtype=np.float64)
    content = ~_padding(pixels, data)
    if "VOILUTSequence" not in data and centre is not None and width:
        low, high = centre - width / 2, centre + width / 2
    else:
        low, high = content_range(grey[content] if content.any() else grey)
    scaled = np.clip((grey - low) / max(high - low, 1e-12), 0, 1)
    if data.get("PhotometricInterpretation") == "MONOCHROME1":
        scaled = 1 - scaled
    return np.round(255 * scaled * (content | ~content.any())).astype(np.uint8)


def _padding(pixels: np.ndarray, data: Any) -> np.ndarray:
    """Which pixels are no image, bool: those of the padding value, or between it and its limit (PS3.3 C.7.5.1.1.2)."""
    try:
        value = int(data.PixelPaddingValue)
        limit = int(data.get("PixelPaddingRangeLimit", value))
    except (AttributeError, TypeError, ValueError):
        return np.zeros(pixels.shape, dtype=bool)
    return (pixels >= min(value, limit)) & (pixels <= max(value, limit))


def _eight_bits(pixels: np.ndarray) -> np.ndarray:
    return pixels if pixels.dtype == np.uint8 else (pixels >> 8).astype(np.uint8)


def _first(value: Any) -> float | None:
    """The first of one or several numbers."""
    if value is None or value == "":
        return None
    return float(value[0] if isinstance(value, (list, tuple)) or hasattr(value, "append") else value)


def _require_inflatable(file: str | Path) -> None:
    """Refuse a file of the deflated transfer syntax that would become larger than :data:`LARGEST` in memory."""
    import pydicom

    with open(file, "rb") as stream:
        stream.seek(PREAMBLE)
        if stream.read(4) != b"DICM":
            return
        meta = pydicom.filereader.read_file_meta_info(file)
        if str(meta.get("TransferSyntaxUID")) != pydicom.uid.DeflatedExplicitVRLittleEndian:
            return
        stream.seek(PREAMBLE + 4 + 12 + int(meta.FileMetaInformationGroupLength))  # (0002,0000) itself has 12 bytes
        inflate, room = zlib.decompressobj(-zlib.MAX_WBITS), LARGEST
        while room > 0 and not inflate.eof and (block := inflate.unconsumed_tail or stream.read(1 << 20)):
            room -= len(inflate.decompress(block, 1 << 24))
    if room <= 0:
        raise ValueError(f"image: {str(file)!r} inflates to more than {LARGEST >> 20} MB; store it uncompressed")


def _read(path: str, *, pixels: bool) -> Any:
    try:
        import pydicom
    except ImportError as error:
        raise ValueError(f"image: {path!r} is DICOM, which needs pydicom; pip install pydicom") from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            _require_inflatable(source_of(path)[0])
            return pydicom.dcmread(source_of(path)[0], stop_before_pixels=not pixels)
    except ValueError as error:
        if str(error).startswith("image: "):
            raise
        raise ValueError(f"image: {path!r} is damaged or no DICOM file (ValueError); replace it") from error
    except Exception as error:  # whatever pydicom makes of damaged bytes
        reason = type(error).__name__
        raise ValueError(f"image: {path!r} is damaged or no DICOM file ({reason}); replace it") from error
