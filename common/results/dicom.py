"""Results as DICOM objects that refer to the images they come from, for archives (PACS) and viewers.

Masks become a Segmentation (PS3.3 A.51), sizes, classes and boxes a Comprehensive SR by template TID 1500, reports a
Basic Text SR by TID 2000. They bear the patient and study of their source images, as archives need.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import highdicom as hd
import numpy as np
from highdicom.sr import CodedConcept
from highdicom.sr.templates import Template
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import BasicTextSRStorage, generate_uid

from common import __version__
from common.images.dicom import pixel_spacing, source_of
from common.images.files import stem_of
from common.metrics.familiarity import UNLIKE
from common.results.dicom_source import one_frame, placed, source_header
from common.results.findings import Finding, centre_of

MAKER = "Ultrasound-text bundles"
SCHEME = "99USTEXT"  # names of lesions that are not looked up in a terminology
SIZES = {
    "area_mm2": (codes.SCT.Area, codes.UCUM.SquareMillimeter),
    "long_axis_mm": (codes.SCT.LongAxis, codes.UCUM.Millimeter),
    "short_axis_mm": (codes.SCT.ShortAxis, codes.UCUM.Millimeter),
    "width_mm": (codes.SCT.Width, codes.UCUM.Millimeter),
    "height_mm": (codes.DCM.Height, codes.UCUM.Millimeter),
    "malignant": (CodedConcept("111047", "DCM", "Probability of cancer"), codes.UCUM.NoUnits),
    "calibrated": (CodedConcept("CALIBRATED", SCHEME, "Probability of cancer, calibrated"), codes.UCUM.NoUnits),
    "score": (CodedConcept("111012", "DCM", "Certainty of Finding"), codes.UCUM.NoUnits),
    "expected_dice": (CodedConcept("EXPECTED_DICE", SCHEME, "Expected Dice of the outline"), codes.UCUM.NoUnits),
    "familiarity": (CodedConcept("FAMILIARITY", SCHEME, "Familiarity of the image"), codes.UCUM.NoUnits),
}
NOTE = CodedConcept("ALGORITHM_NOTE", SCHEME, "Note of the algorithm")
UNLIKE_TRAINING = CodedConcept("UNLIKE", SCHEME, UNLIKE.capitalize())
UNSURE = CodedConcept("UNSURE", SCHEME, "Neither class is sure")
DOUBTED = CodedConcept("DOUBTED", SCHEME, "The report may be another patient's")
CLASSES = {
    "benign": CodedConcept("30807003", "SCT", "Benign"),
    "malignant": CodedConcept("21594007", "SCT", "Malignant"),
    "absent": CodedConcept("2667000", "SCT", "Absent"),
}
NOTHING = Finding(label="lesion", category="absent")


class DicomResults:
    """Write what a network finds as DICOM objects: ``NAME_seg.dcm``, ``NAME_sr.dcm``, ``NAME_report.dcm``.

    Args:
        network: name of the network that detected it.
        orientation: of masks whose image has no place in the patient, for viewers that show none without; None: said
            to be unknown, as it is.
    """

    def __init__(self, *, folder: str | Path, network: str, orientation: Sequence[float] | None = None) -> None:
        self.folder, self.network, self.orientation = Path(folder), network, orientation

    def write_findings(self, image: str, findings: Sequence[Finding], name: str | None = None) -> dict[str, str]:
        """File names of the Segmentation, ``dicom_seg``, None where no mask covers a pixel, and of the measurements,
        ``dicom_sr``; they begin with ``name``, by default the image's.

        Raises:
            ValueError: ``image`` is no DICOM file.
        """
        header, name = source_header(image), name or stem_of(image)
        frame = _frame(image, header)
        covered = [f if f.mask is None or f.mask.any() else _absent(f) for f in findings] or [NOTHING]
        if any(f.mask is not None for f in covered):
            covered = [f for f in covered if f.category != "absent"]
        masks = [finding.mask for finding in covered if finding.mask is not None]
        seg = self._segmentation(header, masks[0], frame, self._spacing(image, masks[0])) if masks else None
        written = {} if seg is None else {"dicom_seg": self._save(seg, f"{name}_seg.dcm")}
        report = self._measurements(header, [_group(f, header, seg, frame) for f in covered], seg)
        return {**written, "dicom_sr": self._save(report, f"{name}_sr.dcm")}

    def write_report(self, text: str, images: Sequence[str], name: str) -> dict[str, str]:
        """File name, ``dicom_report``, of the report ``text`` of a study's ``images``.

        Raises:
            ValueError: an image is no DICOM file.
        """
        sources = dict.fromkeys(source_of(image)[0] for image in images)
        report = _report(text, [source_header(source) for source in sources], self._common("report"))
        return {"dicom_report": self._save(report, f"{name}_report.dcm")}

    def _segmentation(
        self, header: Dataset, mask: np.ndarray, frame: int | None, spacing: tuple[float, float] | None
    ) -> Dataset:
        algorithm = hd.AlgorithmIdentificationSequence(
            name=self.network, version=__version__, family=codes.DCM.ArtificialIntelligence
        )
        segment = hd.seg.SegmentDescription(
            segment_number=1,
            segment_label="nodule",
            segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
            segmented_property_type=codes.SCT.Nodule,
            algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
            algorithm_identification=algorithm,
        )
        seg = hd.seg.Segmentation(
            source_images=[one_frame(placed(header, spacing))],
            pixel_array=mask.astype(np.uint8),
            segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=[segment],
            content_label="NODULE",
            pixel_measures=None if spacing is None else hd.PixelMeasuresSequence(spacing, slice_thickness=1.0),
            **self._common("segmentation"),
        )
        if frame is not None:
            _refer_to_frame(seg, header, frame)
        if "FrameOfReferenceUID" not in seg:
            seg.FrameOfReferenceUID = generate_uid(entropy_srcs=[str(header.SeriesInstanceUID), "frame of reference"])
            seg.PositionReferenceIndicator = ""
        seg.PatientOrientation = header.get("PatientOrientation") or ""
        if self.orientation is not None and "ImageOrientationPatient" not in header:
            seg.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence = [_orientation(self.orientation)]
        return seg

    def _spacing(self, image: str, mask: np.ndarray) -> tuple[float, float] | None:
        """Of a pixel in mm; 1 where the file does not tell and a viewer needs one."""
        return pixel_spacing(image, centre_of(mask)) or (None if self.orientation is None else (1.0, 1.0))

    def _measurements(self, header: Dataset, groups: Sequence[Any], seg: Dataset | None) -> Dataset:
        observer = hd.sr.ObserverContext(
            observer_type=codes.DCM.Device,
            observer_identifying_attributes=hd.sr.DeviceObserverIdentifyingAttributes(
                uid=hd.UID(), name=self.network, manufacturer_name=MAKER, model_name=self.network
            ),
        )
        report = hd.sr.MeasurementReport(
            observation_context=hd.sr.ObservationContext(observer_device_context=observer),
            procedure_reported=codes.SCT.ImagingProcedure,
            imaging_measurements=list(groups),
            title=codes.DCM.ImagingMeasurementReport,
        )
        evidence = [header] if seg is None else [header, seg]
        return hd.sr.ComprehensiveSR(
            evidence=evidence, content=report[0], is_complete=True, is_verified=False, **self._common("measurements")
        )

    def _save(self, result: Dataset, name: str) -> str:
        self.folder.mkdir(parents=True, exist_ok=True)
        result.SpecificCharacterSet = "ISO_IR 192"
        result.save_as(self.folder / name, enforce_file_format=True)
        return name

    def _common(self, what: str) -> dict[str, Any]:
        return {
            "series_instance_uid": hd.UID(),
            "series_number": 1000,
            "sop_instance_uid": hd.UID(),
            "instance_number": 1,
            "manufacturer": MAKER,
            "manufacturer_model_name": self.network,
            "software_versions": __version__,
            "device_serial_number": "none",
            "series_description": f"{self.network}: {what}, research only",
        }


def _absent(finding: Finding) -> Finding:
    """What stands for a mask that covers no pixel; what is known of the image stays."""
    known = {name: value for name, value in finding.values.items() if name == "familiarity"}
    return Finding(known, label="lesion", category="absent", unlike=finding.unlike, doubted=finding.doubted)


def _group(finding: Finding, header: Dataset, seg: Dataset | None, frame: int | None) -> Template:
    tracking = hd.sr.TrackingIdentifier(uid=hd.UID(), identifier=finding.label)
    measured = [
        hd.sr.Measurement(name=SIZES[name][0], value=float(value), unit=SIZES[name][1])
        for name, value in finding.values.items()
        if np.isfinite(value)
    ]
    said = [
        hd.sr.QualitativeEvaluation(CodedConcept("111005", "DCM", "Assessment Category"), CLASSES[category])
        for category in [finding.category]
        if category is not None
    ]
    notes = ((UNLIKE_TRAINING, finding.unlike), (UNSURE, finding.unsure), (DOUBTED, finding.doubted))
    said += [hd.sr.QualitativeEvaluation(NOTE, note) for note, holds in notes if holds]
    common: dict[str, Any] = {
        "tracking_identifier": tracking,
        "measurements": measured,
        "qualitative_evaluations": said,
    }
    common["finding_type"] = codes.SCT.Nodule if finding.label == "nodule" else _own_code(finding.label)
    numbers = None if frame is None else [frame]
    image = (header.SOPClassUID, header.SOPInstanceUID)
    if finding.mask is not None and seg is not None:
        position = hd.sr.ReferencedSegmentationFrame(
            seg.SOPClassUID, seg.SOPInstanceUID, 1, 1, hd.sr.SourceImageForSegmentation(*image, numbers)
        )
        del position[0].ReferencedSOPSequence[0].ReferencedSegmentNumber  # PS3.3 C.17.3: only where no frame is named
        return hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(referenced_segment=position, **common)
    if finding.box is not None:
        left, top, right, bottom = finding.box
        corners = np.array([[left, top], [right, top], [right, bottom], [left, bottom], [left, top]])
        source = hd.sr.SourceImageForRegion(*image, numbers)
        region = hd.sr.ImageRegion(hd.sr.GraphicTypeValues.POLYLINE, corners, source_image=source)
        return hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(referenced_region=region, **common)
    seen = hd.sr.SourceImageForMeasurementGroup(*image, numbers)
    return hd.sr.MeasurementsAndQualitativeEvaluations(source_images=[seen], **common)


def _frame(image: str, header: Dataset) -> int | None:
    """Number, from 1, of a frame of a multi-frame file."""
    return source_of(image)[1] + 1 if int(header.get("NumberOfFrames") or 1) > 1 else None


def _orientation(cosines: Sequence[float]) -> Dataset:
    item = Dataset()
    item.ImageOrientationPatient = list(cosines)
    return item


def _refer_to_frame(seg: Dataset, header: Dataset, frame: int) -> None:
    """Let ``seg``, made from a frame as a single image, name the clip and the frame's number."""
    for item in seg.iterall():
        if item.keyword == "ReferencedSOPClassUID":
            item.value = header.SOPClassUID
    derivation = seg.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0]
    derivation.SourceImageSequence[0].ReferencedFrameNumber = frame


def _report(text: str, headers: Sequence[Dataset], common: Mapping[str, Any]) -> Dataset:
    """A Basic Text SR; its modules are those of the Enhanced SR, which highdicom builds."""
    contains = hd.sr.RelationshipTypeValues.CONTAINS
    root = hd.sr.ContainerContentItem(CodedConcept("18748-4", "LN", "Diagnostic imaging report"), template_id="2000")
    language = hd.sr.LanguageOfContentItemAndDescendants(
        CodedConcept("zh", "RFC5646", "Chinese") if _is_chinese(text) else CodedConcept("en", "RFC5646", "English")
    )
    section = hd.sr.ContainerContentItem(CodedConcept("59776-5", "LN", "Findings"), relationship_type=contains)
    finding = CodedConcept("121071", "DCM", "Finding")
    section.ContentSequence = hd.sr.ContentSequence([hd.sr.TextContentItem(finding, text, contains)])
    root.ContentSequence = hd.sr.ContentSequence([*language, section])
    report = hd.sr.EnhancedSR(evidence=list(headers), content=root, is_complete=True, is_verified=False, **common)
    report.SOPClassUID = report.file_meta.MediaStorageSOPClassUID = BasicTextSRStorage
    return report


def _is_chinese(text: str) -> bool:
    return any("\u4e00" <= character <= "\u9fff" for character in text)


def _own_code(label: str) -> CodedConcept:
    code = "".join(c for c in label if c.isalnum() and c.isascii())[:16] or "LESION"
    return CodedConcept(code, SCHEME, label.replace("\\", "/").strip()[:64] or "lesion")
