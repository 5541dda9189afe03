"""DICOM files for tests: made-up patients, images of the kinds that scanners write."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    ExplicitVRLittleEndian,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
    generate_uid,
)

SECRETS = ("Doe^Jane", "PID-4711", "19800101", "Mercy Hospital")


def dicom_file(path: Path, pixels: np.ndarray, *, photometric: str = "MONOCHROME2", **attributes: object) -> Path:
    """Write ``pixels`` (H, W), (H, W, 3) or (frames, H, W[, 3]), uint8 or uint16, as ultrasound, or with
    ``Modality="CR"`` as radiograph; return ``path``.
    """
    colour = pixels.ndim > 2 and pixels.shape[-1] == 3
    frames = pixels.shape[0] if pixels.ndim - colour == 3 else 1
    image = Dataset()
    image.PatientName, image.PatientID, image.PatientBirthDate, image.InstitutionName = SECRETS
    image.PatientSex, image.StudyDate, image.StudyTime, image.AccessionNumber = "F", "20260101", "120000", "A1"
    image.StudyID, image.ReferringPhysicianName, image.SeriesNumber, image.InstanceNumber = "1", "", 1, 1
    image.ContentDate, image.ContentTime = "20260101", "120000"
    image.Modality, image.Manufacturer, image.PatientOrientation = str(attributes.get("Modality", "US")), "Maker", ""
    storage = UltrasoundMultiFrameImageStorage if frames > 1 else UltrasoundImageStorage
    image.SOPClassUID = ComputedRadiographyImageStorage if image.Modality == "CR" else storage
    image.StudyInstanceUID, image.SeriesInstanceUID, image.SOPInstanceUID = (generate_uid() for _ in range(3))
    image.Rows, image.Columns = pixels.shape[-3:-1] if colour else pixels.shape[-2:]
    image.SamplesPerPixel, image.PhotometricInterpretation = (3 if colour else 1), photometric
    if colour:
        image.PlanarConfiguration = 0
    bits = 8 * pixels.dtype.itemsize
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = bits, bits, bits - 1, 0
    if frames > 1:
        image.NumberOfFrames, image.FrameTime, image.FrameIncrementPointer = frames, "40", 0x00181063
    data = pixels.tobytes()
    image.PixelData = data + b"\0" * (len(data) % 2)
    for name, value in attributes.items():
        setattr(image, name, value)
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save_as(path, enforce_file_format=True)
    return path


def ultrasound_region(left: int, top: int, right: int, bottom: int, *, millimetres: float, kind: int = 1) -> Dataset:
    """A calibrated region: ``millimetres`` of a pixel; ``kind``: 1 tissue, 2 colour flow, 3 spectrum."""
    region = Dataset()
    region.RegionSpatialFormat, region.RegionDataType, region.RegionFlags = 1, kind, 0
    region.RegionLocationMinX0, region.RegionLocationMinY0 = left, top
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = right, bottom
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX = region.PhysicalDeltaY = millimetres / 10
    return region


def compressed(path: Path, target: Path, codec: str) -> Path:
    """``path`` compressed by dcmtk's ``dcmcjpeg`` with the option ``codec``, as ``target``."""
    import subprocess

    subprocess.run(["dcmcjpeg", codec, str(path), str(target)], check=True)
    return target


def read(path: Path) -> Dataset:
    """The object in ``path``, with its pixels."""
    return pydicom.dcmread(path)
