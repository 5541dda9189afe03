import logging
import subprocess
import warnings

import numpy as np
import pydicom
import pytest
from monai.transforms import LoadImaged
from PIL import Image
from pydicom.uid import UID, BasicTextSRStorage

from common.datasets.layouts import list_images
from common.images.dicom import burned_in, dicom_size, frame_names, is_dicom, pixel_spacing, read_dicom
from common.images.files import check_image, image_files, open_image, stem_of
from common.images.nifti import read_slice, slice_size
from common.images.reader import GreyReader
from common.results.dicom import DicomResults
from common.results.findings import Finding, box_size, mask_size, measured
from common.results.names import result_names
from tests.dicom_files import SECRETS, compressed, dicom_file, read, ultrasound_region

SHAPE = (60, 80)


@pytest.fixture
def speckle():
    return np.random.default_rng(0).integers(0, 256, SHAPE, dtype=np.uint8)


@pytest.fixture
def smooth():
    rows, columns = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return np.stack([3 * rows, 2 * columns, rows + columns], axis=-1).astype(np.uint8)


def seen(path) -> np.ndarray:
    return np.asarray(read_dicom(str(path)))


def test_grey_and_inverted(tmp_path, speckle):
    stretched = np.round((speckle - speckle.min()) / np.ptp(speckle) * 255)
    np.testing.assert_allclose(seen(dicom_file(tmp_path / "a.dcm", speckle)), stretched, atol=1)
    inverted = dicom_file(tmp_path / "b.dcm", speckle, photometric="MONOCHROME1")
    np.testing.assert_allclose(seen(inverted), 255 - stretched, atol=1)


@pytest.mark.parametrize("photometric", ["MONOCHROME2", "MONOCHROME1"])
@pytest.mark.parametrize("limit", [None, 65000])
def test_padding_is_black_and_stretches_nothing(tmp_path, photometric, limit):
    content = np.linspace(100, 4000, 32 * 32).reshape(32, 32).astype(np.uint16)
    padded = np.pad(content, 8, constant_values=65535 if limit is None else 65100)
    attributes = {} if limit is None else {"PixelPaddingRangeLimit": limit}
    file = dicom_file(
        tmp_path / "a.dcm", padded, photometric=photometric, Modality="CR", PixelPaddingValue=65535, **attributes
    )
    shown = np.asarray(read_dicom(str(file)))
    expected = np.linspace(0, 255, 32 * 32).reshape(32, 32)
    expected = 255 - expected if photometric == "MONOCHROME1" else expected
    assert (np.delete(shown, np.s_[8:-8], 0) == 0).all() and np.abs(shown[8:-8, 8:-8] - expected).max() < 1.5


def test_colours_of_every_kind(tmp_path, smooth):
    rgb = dicom_file(tmp_path / "rgb.dcm", smooth, photometric="RGB")
    assert (seen(rgb) == smooth).all()
    planes = dicom_file(tmp_path / "planes.dcm", smooth, photometric="RGB", PlanarConfiguration=1,
                        PixelData=np.ascontiguousarray(smooth.transpose(2, 0, 1)).tobytes())  # fmt: skip
    assert (seen(planes) == smooth).all()
    ybr = np.asarray(Image.fromarray(smooth).convert("YCbCr"))
    np.testing.assert_allclose(seen(dicom_file(tmp_path / "ybr.dcm", ybr, photometric="YBR_FULL")), smooth, atol=3)
    index = (smooth[..., 0] // 16).astype(np.uint8)
    look_up = np.linspace(0, 65535, 16).astype(np.uint16)
    palette = {f"{c}PaletteColorLookupTable{part}": value for c in ("Red", "Green", "Blue")
               for part, value in (("Descriptor", [16, 0, 16]), ("Data", look_up.tobytes()))}  # fmt: skip
    painted = seen(dicom_file(tmp_path / "palette.dcm", index, photometric="PALETTE COLOR", **palette))
    np.testing.assert_allclose(painted[..., 1], (look_up >> 8)[index], atol=1)


@pytest.mark.parametrize("codec", ["+eb", "+el", "+e1"])
def test_compressed_colour_is_read_as_colour(tmp_path, smooth, codec):
    pytest.importorskip("gdcm")
    if subprocess.run(["which", "dcmcjpeg"], capture_output=True, check=False).returncode:
        pytest.skip("dcmtk is not installed")
    plain = dicom_file(tmp_path / "plain.dcm", smooth, photometric="RGB")
    np.testing.assert_allclose(seen(compressed(plain, tmp_path / "small.dcm", codec)), smooth, atol=12)


def test_frames_have_names_of_their_own(tmp_path, speckle):
    clip = np.stack([speckle, 255 - speckle, speckle // 2])
    path = dicom_file(tmp_path / "clip.dcm", clip)
    names = list_images(str(tmp_path))
    assert [stem_of(name) for name in names] == ["clip.frame0001", "clip.frame0002", "clip.frame0003"]
    assert names == frame_names(str(path))
    assert dicom_size(names[2]) == (80, 60)
    assert (seen(names[1]) == 255 - seen(names[0])).all()
    with pytest.raises(FileNotFoundError, match="the file has 3"):
        check_image(str(tmp_path / "clip.frame0004.dcm"))
    colour = dicom_file(tmp_path / "colour.dcm", np.stack([np.stack([speckle] * 3, -1)] * 2), photometric="RGB")
    assert len(frame_names(str(colour))) == 2
    assert (seen(frame_names(str(colour))[1])[..., 0] == speckle).all()


def test_files_without_a_suffix_are_told_by_their_bytes(tmp_path, speckle):
    dicom_file(tmp_path / "IM0001", speckle)
    (tmp_path / "notes").write_text("no image")
    (tmp_path / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM")
    assert [file.name for file in image_files(tmp_path, (".png", ".dcm"))] == ["IM0001"]
    assert image_files(tmp_path) == []
    assert is_dicom(tmp_path / "IM0001") and not is_dicom(tmp_path / "notes")


def test_spacing_from_pixels_regions_or_detector(tmp_path, speckle):
    plain = {"PixelSpacing": [0.2, 0.3], "ImagerPixelSpacing": [1, 1]}
    assert pixel_spacing(str(dicom_file(tmp_path / "a.dcm", speckle, **plain))) == (0.2, 0.3)
    detector = dicom_file(tmp_path / "b.dcm", speckle, Modality="CR", ImagerPixelSpacing=[0.4, 0.4])
    assert pixel_spacing(str(detector)) == (0.4, 0.4)
    left, right = ultrasound_region(0, 0, 39, 59, millimetres=0.5), ultrasound_region(40, 0, 79, 59, millimetres=0.1)
    both = str(dicom_file(tmp_path / "c.dcm", speckle, SequenceOfUltrasoundRegions=[left, right]))
    assert pixel_spacing(both, (10, 10)) == pytest.approx((0.5, 0.5))
    assert pixel_spacing(both, (60, 10)) == pytest.approx((0.1, 0.1))
    assert pixel_spacing(str(dicom_file(tmp_path / "d.dcm", speckle))) is None
    spectrum = ultrasound_region(0, 0, 79, 59, millimetres=1, kind=3)
    spectrum.PhysicalUnitsXDirection = 4  # seconds
    no_length = dicom_file(tmp_path / "e.dcm", speckle, SequenceOfUltrasoundRegions=[spectrum])
    assert pixel_spacing(str(no_length)) is None


@pytest.mark.parametrize("value", [[0.5], [0, 0.5], [-1, 1], ["NaN", "1"], [1e400, 1]])
def test_a_spacing_that_is_none_is_left_out(tmp_path, speckle, value):
    data = read(dicom_file(tmp_path / "a.dcm", speckle, ImagerPixelSpacing=[0.4, 0.4]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            data.PixelSpacing = value
            data.save_as(tmp_path / "a.dcm")
        except (ValueError, OverflowError):
            pytest.skip("pydicom does not write it")
    assert pixel_spacing(str(tmp_path / "a.dcm")) == (0.4, 0.4)


def test_a_region_outside_the_image_tells_nothing(tmp_path, speckle):
    outside = ultrasound_region(1000, 1000, 2000, 2000, millimetres=0.5)
    assert pixel_spacing(str(dicom_file(tmp_path / "a.dcm", speckle, SequenceOfUltrasoundRegions=[outside]))) is None


def test_deep_colours_keep_their_high_bits(tmp_path, smooth):
    deep = dicom_file(tmp_path / "a.dcm", smooth.astype(np.uint16) * 256, photometric="RGB")
    assert (seen(deep) == smooth).all()


def test_names_of_archives_are_read(tmp_path, speckle):
    """Files named by their identifier, or by a suffix in capitals."""
    for name in ("1.2.840.1", "1.2.840.2"):
        dicom_file(tmp_path / name, speckle)
    names = list_images(str(tmp_path))
    assert [stem_of(name) for name in names] == ["1.2.840.1.frame0001", "1.2.840.2.frame0001"]
    assert (seen(names[0]) == seen(names[1])).all()
    clip = dicom_file(tmp_path / "clips" / "C.DICOM", np.stack([speckle] * 2))
    assert all(check_image(name) == (80, 60) for name in frame_names(str(clip)))
    with pytest.raises(FileNotFoundError, match="no frame"):
        check_image(str(tmp_path / "clips" / "C.frame0000.dcm"))
    results = DicomResults(folder=tmp_path / "out", network="HFCN").write_findings(names[0], [Finding({}, label="!")])
    assert valid(tmp_path / "out" / results["dicom_sr"])


def test_files_that_differ_by_suffix_alone_have_results_of_their_own(tmp_path, speckle):
    dicom_file(tmp_path / "a.dcm", speckle)
    Image.fromarray(speckle).save(tmp_path / "a.png")
    assert result_names(list_images(str(tmp_path)), are_files=True) == ["a", "a_2"]


def test_unusual_headers_give_objects_or_one_line(tmp_path, speckle):
    japanese = dicom_file(tmp_path / "a.dcm", speckle, SpecificCharacterSet=["", "ISO 2022 IR 87"], PatientSex="X",
                          ImageOrientationPatient=None, FrameOfReferenceUID="")  # fmt: skip
    results = DicomResults(folder=tmp_path, network="AKE-SSFA")
    mask = np.ones(SHAPE, dtype=bool)
    written = results.write_findings(str(japanese), [Finding({"area_mm2": float("nan")}, mask=mask)])
    assert all(valid(tmp_path / name) for name in written.values())
    data = read(japanese)
    del data.StudyInstanceUID
    data.save_as(tmp_path / "b.dcm")
    with pytest.raises(ValueError, match="has no StudyInstanceUID"):
        results.write_findings(str(tmp_path / "b.dcm"), [Finding({}, mask=mask)])


@pytest.mark.parametrize("header", [
    {"StudyTime": "11:20:00", "StudyDate": "2024.01.05"}, {"StudyTime": "noon", "PatientBirthDate": "1980"},
    {"FrameOfReferenceUID": "1.2.3"}, {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0]},
    {"FrameOfReferenceUID": "1.2.3", "ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "ImagePositionPatient": [0, 0, 0]},
    {"FrameOfReferenceUID": "1.2.3", "ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "ImagePositionPatient": [0, 0, 0],
     "PixelSpacing": [0.2, 0.3]},
    {"StudyDate": "20241399", "StudyTime": "996199", "PatientBirthDate": "00000000"},
    {"PatientSex": "male", "PatientAge": "45"},
    {"PixelSpacing": [0, 0], "ImageOrientationPatient": [0, 0, 0, 0, 0, 0], "ImagePositionPatient": [1, 2]},
    {"FrameOfReferenceUID": "1.02.x", "ImageOrientationPatient": [1, 0, 0], "ImagePositionPatient": [0, 0, 0],
     "PixelSpacing": [-0.2, 0.3]},
    {"ImagerPixelSpacing": [0.1, 0]},
])  # fmt: skip
@pytest.mark.parametrize("modality", ["US", "CR"])
def test_every_header_gives_objects_that_readers_take(tmp_path, speckle, header, modality, monkeypatch):
    from highdicom.seg import segread
    from pydicom import config

    with monkeypatch.context() as lenient:
        lenient.setattr(config.settings, "_writing_validation_mode", config.IGNORE)
        image = dicom_file(tmp_path / "a.dcm", speckle, Modality=modality, **header)
    mask = np.zeros(SHAPE, dtype=bool)
    mask[5:15, 30:70] = True
    written = DicomResults(folder=tmp_path, network="AKE-SSFA").write_findings(str(image), [Finding({}, mask=mask)])
    assert all(valid(tmp_path / name) for name in written.values())
    seg, source = segread(tmp_path / written["dicom_seg"]), read(image)
    pixels = seg.get_pixels_by_source_instance(source_sop_instance_uids=[source.SOPInstanceUID])
    assert (pixels.reshape(SHAPE) > 0).tolist() == mask.tolist()
    told = header.get("FrameOfReferenceUID", "")
    assert seg.FrameOfReferenceUID == (told if UID(told).is_valid and told else seg.FrameOfReferenceUID)
    assert UID(seg.FrameOfReferenceUID).is_valid
    measures = seg.SharedFunctionalGroupsSequence[0].get("PixelMeasuresSequence")
    assert (measures is not None) == (header.get("PixelSpacing", [0])[0] > 0)
    if measures is not None:
        assert list(measures[0].PixelSpacing) == [0.2, 0.3]


def test_who_the_patient_is_stays_as_it_is_written(tmp_path, speckle, monkeypatch):
    from pydicom import config

    who = {"PatientID": "P" * 100, "AccessionNumber": "A" * 40, "StudyID": "S" * 40, "PatientName": "A^B^C^D^E^F^G"}
    with monkeypatch.context() as lenient:
        lenient.setattr(config.settings, "_writing_validation_mode", config.IGNORE)
        image = dicom_file(tmp_path / "a.dcm", speckle, **who)
    finding = Finding({}, mask=np.ones(SHAPE, dtype=bool))
    for name in DicomResults(folder=tmp_path, network="X").write_findings(str(image), [finding]).values():
        assert {key: str(read(tmp_path / name)[key].value) for key in who} == who


def test_segmentations_of_a_series_share_a_frame_of_reference(tmp_path, speckle):
    mask = np.ones(SHAPE, dtype=bool)
    frames = []
    for name in "ab":
        image = dicom_file(tmp_path / f"{name}.dcm", speckle, SeriesInstanceUID="1.2.3.4")
        written = DicomResults(folder=tmp_path, network="X").write_findings(str(image), [Finding({}, mask=mask)])
        frames.append(read(tmp_path / written["dicom_seg"]).FrameOfReferenceUID)
    assert frames[0] == frames[1]


def test_sizes_of_masks_and_boxes(tmp_path, speckle):
    mask = np.zeros(SHAPE, dtype=bool)
    mask[10:20, 20:50] = True
    mask[55, 75] = True  # a speck counts for the area alone
    sizes = mask_size(mask, (0.2, 0.1))
    assert sizes["area_mm2"] == pytest.approx(301 * 0.02, abs=0.01)
    assert sizes["long_axis_mm"] == pytest.approx(np.hypot(2, 3), abs=0.01)
    assert mask_size(np.zeros(SHAPE, dtype=bool), (1, 1)) == {"area_mm2": 0, "long_axis_mm": 0, "short_axis_mm": 0}
    one = np.zeros(SHAPE, dtype=bool)
    one[0, 0] = True
    assert mask_size(one, (1, 1))["long_axis_mm"] == pytest.approx(1.41)
    disc = np.hypot(*(np.mgrid[:60, :80] - np.array([30, 40])[:, None, None])) < 20
    round_sizes = mask_size(disc, (0.5, 0.5))
    assert round_sizes["long_axis_mm"] == pytest.approx(20, abs=0.8)
    assert round_sizes["short_axis_mm"] == pytest.approx(20, abs=0.8)
    image = str(dicom_file(tmp_path / "a.dcm", speckle, PixelSpacing=[0.2, 0.1]))
    assert measured(image, mask) == sizes
    assert box_size(np.array([10, 10, 30, 15]), image) == {"width_mm": 2.0, "height_mm": 1.0}
    Image.fromarray(speckle).save(tmp_path / "a.png")
    assert measured(str(tmp_path / "a.png"), mask) == {}


def test_nothing_of_the_header_in_errors_and_logs(tmp_path, speckle, caplog):
    path = dicom_file(tmp_path / "a.dcm", speckle, BurnedInAnnotation="YES", WindowCenter="1", WindowWidth="0")
    assert burned_in(str(path)) is True
    whole = path.read_bytes()
    messages = []
    with caplog.at_level(logging.DEBUG):
        for length in (len(whole) - 500, 700, 300, 140, 20, 0):
            (tmp_path / "cut.dcm").write_bytes(whole[:length])
            with pytest.raises(ValueError, match=r"damaged|without an image") as caught:
                read_dicom(str(tmp_path / "cut.dcm"))
            messages.append(str(caught.value))
    text = "\n".join(messages) + caplog.text
    assert not any(secret in text for secret in SECRETS)
    assert all("\n" not in message for message in messages)


def test_a_slice_in_nifti_is_read_like_the_picture(tmp_path, speckle):
    import nibabel

    affine = np.diag([0.25, 0.5, 1, 1])
    for shape, name in (((80, 60), "a.nii.gz"), ((80, 60, 1), "b.nii")):
        nibabel.save(nibabel.Nifti1Image(speckle.T.reshape(shape), affine), tmp_path / name)
        image, found = read_slice(str(tmp_path / name))
        assert (np.asarray(image) == speckle).all() and (found == affine).all()
        assert slice_size(str(tmp_path / name)) == (80, 60)
    loaded = LoadImaged(keys="image", reader=GreyReader(), ensure_channel_first=True)(
        {"image": str(tmp_path / "b.nii")}
    )
    assert loaded["image"].shape == (1, 80, 60)
    assert (speckle == loaded["image"][0].numpy().T).all()
    np.testing.assert_allclose(loaded["image"].affine, affine)
    colours = np.zeros((80, 60, 1), dtype=[("R", "u1"), ("G", "u1"), ("B", "u1")])
    colours["G"][..., 0] = speckle.T
    nibabel.save(nibabel.Nifti1Image(colours, affine), tmp_path / "rgb.nii")
    assert (np.asarray(open_image(str(tmp_path / "rgb.nii")))[..., 1] == speckle).all()
    nibabel.save(nibabel.Nifti1Image(np.zeros((8, 8, 5), np.uint8), affine), tmp_path / "volume.nii")
    with pytest.raises(ValueError, match="a single slice is expected"):
        check_image(str(tmp_path / "volume.nii"))
    (tmp_path / "broken.nii.gz").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="damaged or no NIfTI"):
        check_image(str(tmp_path / "broken.nii.gz"))


def valid(path) -> bool:
    """Whether dicom3tools' validator finds no error; without it the file is only read."""
    read(path)
    try:
        lines = subprocess.run(["dciodvfy", str(path)], capture_output=True, text=True, check=False).stderr
    except FileNotFoundError:
        return True
    return not [line for line in lines.splitlines() if line.startswith("Error")]


def test_a_segmentation_and_its_measurements(tmp_path, speckle):
    image = dicom_file(tmp_path / "us.dcm", speckle, PixelSpacing=[0.2, 0.3])
    mask = np.zeros(SHAPE, dtype=bool)
    mask[5:15, 30:70] = True
    results = DicomResults(folder=tmp_path / "out", network="AKE-SSFA")
    written = results.write_findings(str(image), [Finding(measured(str(image), mask), mask=mask)])
    assert written == {"dicom_seg": "us_seg.dcm", "dicom_sr": "us_sr.dcm"}
    seg, report, source = (read(p) for p in (tmp_path / "out/us_seg.dcm", tmp_path / "out/us_sr.dcm", image))
    assert (seg.pixel_array.reshape(SHAPE).astype(bool) == mask).all()
    assert (seg.StudyInstanceUID, seg.PatientID) == (source.StudyInstanceUID, source.PatientID)
    named = seg.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].SourceImageSequence[0]
    assert named.ReferencedSOPInstanceUID == source.SOPInstanceUID
    numbers = [float(item.value) for item in report.iterall() if item.keyword == "NumericValue"]
    assert numbers == list(mask_size(mask, (0.2, 0.3)).values())
    assert valid(tmp_path / "out/us_seg.dcm") and valid(tmp_path / "out/us_sr.dcm")


def test_a_frame_of_a_clip_is_named_by_its_number(tmp_path, speckle):
    clip = dicom_file(tmp_path / "clip.dcm", np.stack([speckle] * 4))
    mask = np.zeros(SHAPE, dtype=bool)
    mask[5:15, 30:70] = True
    results = DicomResults(folder=tmp_path, network="CLIP-TNseg")
    written = results.write_findings(frame_names(str(clip))[2], [Finding({}, mask=mask)])
    seg = read(tmp_path / written["dicom_seg"])
    named = seg.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].SourceImageSequence[0]
    assert (named.ReferencedFrameNumber, named.ReferencedSOPClassUID) == (3, read(clip).SOPClassUID)
    assert all(valid(tmp_path / name) for name in written.values())
    empty = Finding({}, mask=np.zeros(SHAPE, dtype=bool), doubted=True)
    nothing = results.write_findings(frame_names(str(clip))[0], [empty])
    assert nothing == {"dicom_sr": "clip.frame0001_sr.dcm"}
    meanings = [
        str(item.value) for item in read(tmp_path / nothing["dicom_sr"]).iterall() if item.keyword == "CodeMeaning"
    ]
    assert "The report may be another patient's" in meanings
    assert valid(tmp_path / nothing["dicom_sr"])


def test_classes_boxes_and_reports(tmp_path, speckle):
    chest = dicom_file(tmp_path / "chest.dcm", speckle, Modality="CR", PatientName="Wang^XiaoDong=王^小东",
                       SpecificCharacterSet="ISO_IR 192")  # fmt: skip
    results = DicomResults(folder=tmp_path, network="D2R-Net")
    box = Finding({"score": 0.71, "width_mm": 12.0}, label="Nodule/Mass", box=[10, 12, 30, 40])
    malignant = Finding({"malignant": 0.8, "calibrated": 0.6}, category="malignant", unsure=True)
    measurements = read(tmp_path / results.write_findings(str(chest), [box, malignant])["dicom_sr"])
    corners = next(item.value for item in measurements.iterall() if item.keyword == "GraphicData")
    assert list(corners)[:6] == [10, 12, 30, 12, 30, 40]
    meanings = [str(item.value) for item in measurements.iterall() if item.keyword == "CodeMeaning"]
    assert {"Malignant", "Nodule/Mass", "Probability of cancer", "Neither class is sure"} <= set(meanings)
    assert "Probability of cancer, calibrated" in meanings
    text = "The heart is enlarged. 心影增大。"
    report = read(tmp_path / results.write_report(text, [str(chest)], "study")["dicom_report"])
    assert report.SOPClassUID == BasicTextSRStorage
    assert [item.value for item in report.iterall() if item.keyword == "TextValue"] == [text]
    assert str(report.PatientName) == "Wang^XiaoDong=王^小东"
    evidence = report.CurrentRequestedProcedureEvidenceSequence[0].ReferencedSeriesSequence[0]
    assert evidence.ReferencedSOPSequence[0].ReferencedSOPInstanceUID == read(chest).SOPInstanceUID
    assert valid(tmp_path / "chest_sr.dcm") and valid(tmp_path / "study_report.dcm")


def test_results_need_a_dicom_image(tmp_path, speckle):
    Image.fromarray(speckle).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match=r"dicom_results: .*a.png' is no DICOM file"):
        DicomResults(folder=tmp_path, network="HFCN").write_findings(str(tmp_path / "a.png"), [])


def test_an_empty_mask_keeps_what_is_known_of_the_image(tmp_path, speckle):
    file = dicom_file(tmp_path / "a.dcm", speckle)
    finding = Finding({"area_mm2": 0.0, "familiarity": 0.01}, mask=np.zeros(speckle.shape[:2], dtype=bool), unlike=True)
    written = DicomResults(folder=tmp_path, network="network").write_findings(str(file), [finding])
    assert "dicom_seg" not in written
    said = str(read(tmp_path / written["dicom_sr"]))
    assert (
        "This image is unlike the training images" in said and "Familiarity of the image" in said and "Absent" in said
    )
    assert "Area" not in said


def test_a_deflated_file_is_read_unless_it_would_fill_the_memory(tmp_path, speckle):
    file, large = dicom_file(tmp_path / "a.dcm", speckle), tmp_path / "large.dcm"
    header = pydicom.dcmread(file)
    header.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    header.save_as(tmp_path / "deflated.dcm", enforce_file_format=True)
    np.testing.assert_array_equal(open_image(str(tmp_path / "deflated.dcm")), open_image(str(file)))
    header.add_new((0x0011, 0x0010), "LO", "TEST")
    header.add_new((0x0011, 0x1001), "OB", bytes(260 << 20))
    header.save_as(large, enforce_file_format=True)
    assert large.stat().st_size < 1 << 20
    with pytest.raises(ValueError, match=r"large.dcm' inflates to more than 256 MB; store it uncompressed"):
        open_image(str(large))
