"""One way to open any image file, whatever its format, and a look at it before its use."""

from __future__ import annotations

import logging
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from common.images.dicom import SUFFIXES as DICOM
from common.images.dicom import dicom_size, frame_names, is_dicom, read_dicom, source_of
from common.images.nifti import is_nifti, read_slice, slice_size

logger = logging.getLogger(__name__)
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
WITH_DICOM = (*SUFFIXES, *DICOM)
_converted: set[str] = set()


def image_files(folder: str | Path, suffixes: tuple[str, ...] = SUFFIXES) -> list[Path]:
    """Return the image files of ``folder``, numbers in numerical order; with DICOM, also its files without a suffix."""

    def is_image(file: Path) -> bool:
        return file.suffix.lower() in suffixes or (DICOM[0] in suffixes and is_dicom(file))

    files = [file for file in Path(folder).iterdir() if is_image(file) and file.name != "DICOMDIR"]
    return sorted(files, key=lambda file: (int(file.stem) if file.stem.isdigit() else -1, file.stem, file.name))


def frames_of(path: str | Path) -> list[str]:
    """Names of the pictures in an image file: itself, or the frames of a multi-frame DICOM file."""
    return frame_names(str(path)) if is_dicom(path) else [str(path)]


def stem_of(path: str) -> str:
    """Name of an image file without its folder and its suffix."""
    name = Path(path).name
    return name.removesuffix(".gz").removesuffix(".nii") if is_nifti(path) else Path(name).stem


def open_image(path: str) -> Image.Image:
    """The picture in an image file, DICOM and slices in NIfTI included."""
    if is_dicom(path):
        return read_dicom(path)
    if is_nifti(path):
        return read_slice(path)[0]
    with Image.open(path) as image:
        image.load()
        return image


def image_size(path: str) -> tuple[int, int]:
    """Width and height of an image that was checked before; its header alone is read."""
    if is_dicom(path):
        return dicom_size(path)
    if is_nifti(path):
        return slice_size(path)
    with Image.open(path) as image:
        return image.size


def check_image(path: str, *, what: str = "image") -> tuple[int, int]:
    """Return (width, height) of an intact image file; its bytes are read once, its checksums compared.

    Of a DICOM or NIfTI file the header alone is read.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or no image.
    """
    if not Path(source_of(path)[0]).is_file():
        raise FileNotFoundError(f"{what}: no file {path!r}; restore it or remove its entry")
    if is_dicom(path) or is_nifti(path):
        return image_size(path)
    try:
        with Image.open(path) as image:
            size = image.size
            image.verify()
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise ValueError(f"{what}: {path!r} is damaged or no image ({error}); replace the file") from error
    return size


def check_pairs(cases: list[dict]) -> list[dict]:
    """Return ``cases`` after checking every image and its mask.

    Raises:
        FileNotFoundError: an image or a mask is missing.
        ValueError: a file is damaged, or a mask has another size than its image.
    """
    for case in cases:
        size, mask_size = check_image(case["image"]), check_image(case["label"], what=f"mask of {case['image']!r}")
        if size != mask_size:
            raise ValueError(
                f"mask: {case['label']!r} is {mask_size[0]}x{mask_size[1]} pixels, its image {case['image']!r} is "
                f"{size[0]}x{size[1]}; export both at one size"
            )
    return cases


def to_grey(image: Image.Image) -> Image.Image:
    """Return an 8-bit grey image; colour becomes luma, deeper images are scaled from their range to 0-255.

    Says so once for each kind of conversion. Hand it to ``PILReader(converter=...)``.
    """
    if image.mode == "L":
        return image
    if image.mode not in _converted:
        _converted.add(image.mode)
        logger.warning("image %s: mode %s converted to 8-bit grey", getattr(image, "filename", ""), image.mode)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        pixels = np.asarray(image, dtype=np.float64)
        low, high = pixels.min(), pixels.max()
        return Image.fromarray(np.uint8(np.round(255 * (pixels - low) / max(high - low, 1e-12))))
    return image.convert("L")
