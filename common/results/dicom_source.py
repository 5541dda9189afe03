"""The image that a DICOM result refers to: its header, repaired where readers and highdicom would stumble."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from copy import deepcopy
from operator import mul
from typing import Any

from pydicom.dataset import Dataset
from pydicom.uid import UID, UltrasoundImageStorage
from pydicom.valuerep import DA, TM

from common.images.dicom import is_dicom, read_header

REQUIRED = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex",
    "StudyID", "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip
IDENTIFIERS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
PLACES = ("ImageOrientationPatient", "ImagePositionPatient", "FrameOfReferenceUID")
TIMES = {  # by value representation: form, separators of older files, reader
    "DA": (r"\d{8}", r"(?<=\d)[-.:/](?=\d\d)", DA),
    "TM": (r"\d{2}(\d{2}(\d{2}(\.\d{1,6})?)?)?", ":", TM),
}


def _numbers(value: Any, count: int) -> list[float]:
    """``count`` finite numbers, none where ``value`` holds anything else."""
    try:
        numbers = [float(number) for number in value]
    except (TypeError, ValueError):
        return []
    return numbers if len(numbers) == count and all(map(math.isfinite, numbers)) else []


def _is_spacing(value: Any) -> bool:
    numbers = _numbers(value, 2)
    return bool(numbers) and min(numbers) > 0


def _is_orientation(value: Any) -> bool:
    """Whether ``value`` holds the cosines of a row and a column at a right angle."""
    numbers = _numbers(value, 6)
    if not numbers:
        return False
    row, column = numbers[:3], numbers[3:]
    angle = abs(sum(map(mul, row, column)))
    return angle < 1e-2 and all(abs(math.hypot(*cosines) - 1) < 1e-2 for cosines in (row, column))


OPTIONAL: dict[str, Callable[[Any], bool]] = {
    "ImageOrientationPatient": _is_orientation,
    "ImagePositionPatient": lambda value: bool(_numbers(value, 3)),
    "FrameOfReferenceUID": lambda value: bool(value) and UID(str(value)).is_valid,
    "PixelSpacing": _is_spacing,
    "PatientAge": lambda value: re.fullmatch(r"\d{3}[DWMY]", str(value)) is not None,
}


def source_header(path: str) -> Dataset:
    """The header of ``path``, with what the standard asks of every object empty where it is missing.

    What is optional and out of its range is left out. Who the patient is, and which study, stays as it is written.

    Raises:
        ValueError: it is no DICOM file, or has no identifiers.
    """
    if not is_dicom(path):
        raise ValueError(f"dicom_results: {path!r} is no DICOM file that an object could refer to; leave it off")
    header = read_header(path)
    for name in REQUIRED:
        if name not in header:
            setattr(header, name, "")
    missing = [name for name in IDENTIFIERS if not header.get(name)]
    if missing:
        raise ValueError(f"dicom_results: {path!r} has no {missing[0]}, so no object can refer to it; leave it off")
    if header.PatientSex not in ("M", "F", "O"):
        header.PatientSex = ""
    for name, fits in OPTIONAL.items():
        if name in header and not fits(header[name].value):
            delattr(header, name)
    _repair_times(header)
    return _in_unicode(header, path)


def _repair_times(header: Dataset) -> None:
    """Dates and times in today's form: older files write 2024.01.05 and 11:20:00; what is neither becomes empty."""
    for element in header:
        if element.VR in TIMES and element.value:
            form, separators, reads = TIMES[element.VR]
            digits = re.sub(separators, "", str(element.value))
            element.value = digits if re.fullmatch(form, digits) and _is_read(reads, digits) else ""


def _is_read(reads: type, digits: str) -> bool:
    """Whether there is such a day or time."""
    try:
        reads(digits)
    except ValueError:
        return False
    return True


def _in_unicode(header: Dataset, path: str) -> Dataset:
    try:
        header.decode()
    except (LookupError, UnicodeError, ValueError) as error:
        raise ValueError(f"dicom_results: {path!r} is written in a character set that cannot be read") from error
    header.SpecificCharacterSet = "ISO_IR 192"
    return header


def placed(header: Dataset, spacing: tuple[float, float] | None) -> Dataset:
    """``header`` with position and orientation in the patient, or with neither: highdicom reads both, or fails."""
    if not any(name in header for name in PLACES[:2]):
        return header
    source = deepcopy(header)
    if spacing is None or not all(name in header for name in PLACES):
        for name in PLACES[:2]:
            source.pop(name, None)
        return source
    source.PixelSpacing = list(spacing)
    source.SliceThickness = source.get("SliceThickness") or 1.0
    return source


def one_frame(header: Dataset) -> Dataset:
    """``header``; of a clip, as a single image: highdicom expects every clip to be an enhanced one."""
    if int(header.get("NumberOfFrames") or 1) == 1:
        return header
    single = deepcopy(header)
    del single.NumberOfFrames
    single.SOPClassUID = UltrasoundImageStorage
    return single
