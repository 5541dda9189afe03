"""Pictures that a request brings: their kinds, their sizes, and what is wrong with one that cannot be read."""

from __future__ import annotations

from pathlib import Path

from common.images.files import WITH_DICOM, check_image, image_files

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".dcm", ".dicom", ".nii", ".nii.gz")
MOST_PIXELS, LONGEST_SIDES = 25_000_000, 10
BAD, OF_THE_REQUEST = (ValueError, FileNotFoundError), ("image", "mask", "report", "phrase")


def check_size(picture: str) -> None:
    """Refuse pictures that would fill the server's memory.

    Raises:
        ValueError: too many pixels, or a strip.
    """
    files = image_files(picture, WITH_DICOM) if Path(picture).is_dir() else [picture]
    for file in files:
        width, height = check_image(str(file))
        if width * height > MOST_PIXELS or max(width, height) > LONGEST_SIDES * min(width, height):
            raise ValueError(
                f"image: {width} x {height} pixels; {MOST_PIXELS // 10**6} million at most are accepted, and sides of "
                f"1 to {LONGEST_SIDES} at most"
            )


def reason_of(error: BaseException) -> BaseException | None:
    """What ``error`` comes from, where that is in the request; None: it is the server's own fault."""
    reason: BaseException | None = error
    while reason is not None and not (isinstance(reason, BAD) and str(reason).startswith(OF_THE_REQUEST)):
        reason = reason.__cause__
    return reason
