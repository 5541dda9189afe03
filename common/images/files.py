"""One way to open any image file, whatever its format, and a look at it before its use."""

from __future__ import annotations

import logging
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from common.cli.reading import visible
from common.images.dicom import SUFFIXES as DICOM
from common.images.dicom import dicom_size, frame_names, is_dicom, read_dicom, source_of
from common.images.manifest import is_trusted
from common.images.nifti import is_nifti, read_slice, slice_size
from common.images.ranges import content_range

logger = logging.getLogger(__name__)
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
WITH_DICOM = (*SUFFIXES, *DICOM)
BROKEN = (  # what Pillow makes of damaged bytes
    UnidentifiedImageError, OSError, SyntaxError, ValueError, EOFError, IndexError, KeyError, TypeError, AttributeError,
    OverflowError, MemoryError, struct.error, zlib.error, Image.DecompressionBombError,
)  # fmt: skip
ORIENTATION, TURNED = 0x0112, (5, 6, 7, 8)  # of EXIF: rows and columns change places
FIRST = 64  # files of a data set that are read before anything is done with it
FEW = 16  # colours of a palette that numbers classes
_converted: set[str] = set()


def image_files(folder: str | Path, suffixes: tuple[str, ...] = SUFFIXES) -> list[Path]:
    """Return the image files of ``folder``, numbers in numerical order; with DICOM, also its files without a suffix."""

    def is_image(file: Path) -> bool:
        return file.suffix.lower() in suffixes or (DICOM[0] in suffixes and is_dicom(file))

    files = [file for file in visible(folder, "*") if is_image(file) and file.name != "DICOMDIR"]
    return sorted(files, key=lambda file: (int(file.stem) if file.stem.isdigit() else -1, file.stem, file.name))


def frames_of(path: str | Path) -> list[str]:
    """Names of the pictures in an image file: itself, or the frames of a multi-frame DICOM file."""
    return frame_names(str(path)) if is_dicom(path) else [str(path)]


def stem_of(path: str) -> str:
    """Name of an image file without its folder and its suffix."""
    name = Path(path).name
    return name.removesuffix(".gz").removesuffix(".nii") if is_nifti(path) else Path(name).stem


def open_image(path: str, *, least: int | None = None) -> Image.Image:
    """The picture in an image file, DICOM and slices in NIfTI included, turned as its EXIF entry says.

    Args:
        least: a JPEG file may come at a half, a quarter or an eighth of its size, none of whose sides is below: what
            is shrunk anyway is decoded in a fraction of the time.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged, no image, or holds several.
    """
    if is_dicom(path):
        return read_dicom(path)
    if is_nifti(path):
        return read_slice(path)[0]
    with _opened(path) as image:
        turn = _orientation(image)
        try:
            if least is not None and image.format == "JPEG":
                image.draft(None, (least, least))
            image.load()
            return image if turn == 1 else _upright(image)
        except BROKEN as error:
            raise ValueError(_damaged(path, error)) from error


def image_size(path: str) -> tuple[int, int]:
    """Width and height of an image that was checked before; its header alone is read.

    Raises:
        FileNotFoundError, ValueError: as :func:`open_image`.
    """
    if is_dicom(path):
        return dicom_size(path)
    if is_nifti(path):
        return slice_size(path)
    with _opened(path) as image:
        return _upright_size(image)


@contextmanager
def _opened(path: str, *, what: str = "image") -> Iterator[Image.Image]:
    """A picture whose pixels are not read yet, and the only one in its file."""
    if not Path(path).is_file():
        raise FileNotFoundError(f"{what}: no file {path!r}; restore it or remove its entry")
    try:
        image = Image.open(path)
        count = int(getattr(image, "n_frames", 1))
    except BROKEN as error:
        raise ValueError(_damaged(path, error, what=what)) from error
    with image:
        if count > 1:
            raise ValueError(f"{what}: {path!r} holds {count} pictures; save each as a file of its own")
        yield image


def _damaged(path: str, error: Exception, *, what: str = "image") -> str:
    reason = str(error).partition("\n")[0] or type(error).__name__
    return f"{what}: {path!r} is damaged or no image ({reason}); replace the file"


def _upright(image: Image.Image) -> Image.Image:
    """``image`` as viewers show it; it keeps its mode and its file's name."""
    turned = ImageOps.exif_transpose(image)
    turned.filename = getattr(image, "filename", "")  # type: ignore[attr-defined]
    return turned


def _upright_size(image: Image.Image) -> tuple[int, int]:
    width, height = image.size
    return (height, width) if _orientation(image) in TURNED else (width, height)


def _orientation(image: Image.Image) -> int:
    """EXIF's, 1 where there is none; pixels are not read, for which Pillow would look behind those of a PNG."""
    if image.format == "PNG" and "exif" not in image.info:
        return 1
    return int(image.getexif().get(ORIENTATION, 1))


def check_image(path: str, *, what: str = "image") -> tuple[int, int]:
    """Return (width, height) of an intact image file; its bytes are read once, its checksums compared.

    Of a DICOM or NIfTI file the header alone is read.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is damaged or no image.
    """
    require_image(path, what=what)
    if is_dicom(path) or is_nifti(path):
        return image_size(path)
    with _opened(path, what=what) as image:
        size = _upright_size(image)
        try:
            if image.format == "JPEG":  # its bytes have no checksums: a small version is decoded
                image.draft("L", (1, 1))
                image.load()
            else:
                image.verify()
        except BROKEN as error:
            raise ValueError(_damaged(path, error, what=what)) from error
    return size


def check_images(paths: Sequence[str], *, root: str | None = None, what: str = "image") -> None:
    """Look at each of ``paths``: the first :data:`FIRST` are read, the others must be there.

    What is damaged among those is told when it is decoded. A whole data set is read by ``python -m common.cli.check``,
    whose manifest in ``root`` is trusted in place of all this (:func:`common.images.manifest.is_trusted`).

    Raises:
        FileNotFoundError: one is missing.
        ValueError: one of the first is damaged or no image.
    """
    if root is not None and is_trusted(root, paths):
        return
    for path in paths[:FIRST]:
        check_image(path, what=what)
    for path in paths[FIRST:]:
        require_image(path, what=what)


def require_image(path: str, *, what: str = "image") -> None:
    """Refuse a ``path`` without a file.

    Raises:
        FileNotFoundError: there is none.
    """
    if not os.path.isfile(source_of(path)[0]):
        raise FileNotFoundError(f"{what}: no file {path!r}; restore it or remove its entry")


def check_pairs(cases: list[dict], *, root: str | None = None) -> list[dict]:
    """Return ``cases`` after a look at each image and its mask, as :func:`check_images` has it.

    Raises:
        FileNotFoundError: an image or a mask is missing.
        ValueError: one of the first is damaged, or a mask has another size than its image.
    """
    if root is not None and is_trusted(root, [case[key] for case in cases for key in ("image", "label")]):
        return cases
    for case in cases[FIRST:]:
        require_image(case["image"])
        require_image(case["label"], what=f"mask of {case['image']!r}")
    for case in cases[:FIRST]:
        size, mask_size = check_image(case["image"]), check_image(case["label"], what=f"mask of {case['image']!r}")
        require_one_size(case["image"], size, case["label"], mask_size)
    return cases


def require_one_size(image: str, size: Sequence[int], mask: str, mask_size: Sequence[int]) -> None:
    """Refuse a ``mask`` that is not as wide and high as its ``image``.

    Raises:
        ValueError: with both sizes.
    """
    if tuple(size) != tuple(mask_size):
        raise ValueError(
            f"mask: {mask!r} is {mask_size[0]}x{mask_size[1]} pixels, its image {image!r} is {size[0]}x{size[1]}; "
            "export both at one size"
        )


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
        return Image.fromarray(_stretched(np.asarray(image, dtype=np.float64), getattr(image, "filename", "")))
    if image.mode == "P" and (classes := _classes_of(image)) is not None:
        return Image.fromarray(classes)
    grey = image.convert("L")
    if image.mode in ("RGBA", "LA") and len(set(grey.getextrema())) == 1:
        opacity = image.getchannel("A")
        if np.asarray(opacity).min() < 255:  # what is seen is cut out of one colour by it
            return opacity
    return grey


def _classes_of(image: Image.Image) -> np.ndarray | None:
    """Classes (H, W) of a mask that numbers them by colours; None of greys or many colours: a picture.

    The background, 0, is what is black; without it, or where number 0 is white, number 0.
    """
    pixels = np.asarray(image)
    indices = np.unique(pixels)
    palette = np.asarray(image.getpalette("RGB") or [], dtype=int).reshape(-1, 3)
    colours = palette[indices[indices < len(palette)]]
    if len(indices) > FEW or (colours == colours[:, :1]).all():
        return None
    black = indices[: len(colours)][(colours == 0).all(1)]
    if black.tolist() in ([], [0]) or (indices[0] == 0 and (colours[0] == 255).all()):
        return pixels
    return np.where(np.isin(pixels, black), 0, np.searchsorted(indices, pixels) + 1).astype(np.uint8)


def _stretched(pixels: np.ndarray, name: str) -> np.ndarray:
    """Deep ``pixels`` (H, W) as 0 to 255, from their :func:`common.images.ranges.content_range`.

    Raises:
        ValueError: no pixel is a finite number.
    """
    try:
        low, high = content_range(pixels)
    except ValueError as error:
        raise ValueError(f"image: {name!r} has no pixel that is a finite number; export it again") from error
    scaled = np.nan_to_num((pixels - low) / max(high - low, 1e-12), nan=0.0, posinf=1.0, neginf=0.0)
    return np.round(255 * np.clip(scaled, 0, 1)).astype(np.uint8)
