"""Boxes from one form to another and back; readers of every form."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from common.datasets import convert_boxes
from common.datasets.boxes import LABELS, read_boxes
from common.datasets.splits import fold
from common.synthetic.chest import ChestOptions, write_chests


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chest") / "set"
    write_chests(str(folder), ChestOptions(studies=30, size=64, seed=4))
    return folder


def command(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["convert_boxes", *map(str, arguments)])
    convert_boxes.main()


def by_name(cases):
    boxes = [(case["boxes"].round(1).tolist(), case["labels"].tolist()) for case in cases]
    return dict(zip((case["image"].rsplit("/", 1)[1] for case in cases), boxes, strict=True))


def of_split(folder, split):
    return by_name(read_boxes(str(folder), split, classes=LABELS))


def all_of(folder):
    return of_split(folder, "train") | of_split(folder, "val") | of_split(folder, "test")


def test_coco_to_vindr_and_back_keeps_every_box_and_the_test_split(root, tmp_path, monkeypatch):
    command(monkeypatch, root, "--to", "vindr", "--target", tmp_path / "vindr")
    command(monkeypatch, tmp_path / "vindr", "--to", "coco", "--target", tmp_path / "coco")
    assert all_of(root) == all_of(tmp_path / "vindr") == all_of(tmp_path / "coco")
    tests = [set(of_split(folder, "test")) for folder in (root, tmp_path / "vindr", tmp_path / "coco")]
    assert tests[0] == tests[1] == tests[2]
    with pytest.raises(SystemExit, match=r"target: .* is there already"):
        command(monkeypatch, root, "--to", "coco", "--target", tmp_path / "coco")


def test_boxes_go_into_the_studies_of_their_images(root, tmp_path, monkeypatch):
    content = json.loads((root / "annotation.json").read_text())
    for entry in (entry for split in content.values() for entry in split):
        for key in ("boxes", "box_labels", "scores", "height", "width"):
            del entry[key]
    bare = tmp_path / "bare.json"
    bare.write_text(json.dumps(content))
    target = tmp_path / "annotation.json"
    command(monkeypatch, root, "--to", "annotation", "--studies", bare, "--target", target)
    assert json.loads(target.read_text()) == json.loads((root / "annotation.json").read_text())
    (tmp_path / "images").symlink_to(root / "images")
    assert all_of(tmp_path) == all_of(root)


def test_a_detectors_results_bring_their_scores(root, tmp_path, monkeypatch):
    coco = json.loads((root / "coco_test.json").read_text())
    image = coco["images"][2]
    found = [{"image_id": image["id"], "category_id": 4, "bbox": [5, 6, 10, 12], "score": 0.75}]
    (tmp_path / "results.json").write_text(json.dumps(found))
    options = ["--results", tmp_path / "results.json", "--studies", root / "annotation.json"]
    command(monkeypatch, root, "--to", "annotation", *options, "--target", tmp_path / "new.json")
    entries = {entry["image_path"][0]: entry for entry in json.loads((tmp_path / "new.json").read_text())["test"]}
    entry = entries[image["file_name"]]
    assert (entry["boxes"], entry["box_labels"], entry["scores"]) == ([[5, 6, 10, 12]], ["Cardiomegaly"], [0.75])
    assert sum(len(entry["boxes"]) for entry in entries.values()) == 1
    options[1].write_text(json.dumps([{**found[0], "image_id": 999}]))
    with pytest.raises(SystemExit, match="has an image or category that"):
        command(monkeypatch, root, "--to", "annotation", *options, "--target", tmp_path / "other.json")
    options[1].write_text(json.dumps([{**found[0], "image_id": str(image["id"]), "category_id": "4"}]))
    command(monkeypatch, root, "--to", "annotation", *options, "--target", tmp_path / "other.json")
    assert (tmp_path / "other.json").read_bytes() == (tmp_path / "new.json").read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"score": None}, "the score None is no number from 0 to 1"),
        ({"score": float("nan")}, "the score nan is no number from 0 to 1"),
        ({"bbox": [1, 2, 3]}, r"\[1, 2, 3\] are not four numbers each"),
        ({"bbox": None}, "None are not four numbers each"),
        ({"image_id": None}, "has not image_id, category_id, bbox and score"),
        ({"category_id": [4]}, "has not image_id, category_id, bbox and score"),
    ],
)
def test_malformed_results_are_one_line(root, tmp_path, monkeypatch, change, message):
    entry = {"image_id": 1, "category_id": 4, "bbox": [5, 6, 10, 12], "score": 0.75}
    file = tmp_path / "results.json"
    options = ["--to", "coco", "--results", file, "--split", "train", "--target", tmp_path / "new"]
    file.write_text(json.dumps([entry, entry | change]))
    with pytest.raises(SystemExit, match=f"entry 2 of .*results.json.*{message}") as caught:
        command(monkeypatch, root, *options)
    assert "\n" not in str(caught.value) and not (tmp_path / "new").exists()
    for content, said in (
        ({"boxes": [entry]}, "is no list of boxes"),
        ([{"bbox": [1, 2, 3, 4]}], "entry 1 of"),
        ([7], "7"),
    ):
        file.write_text(json.dumps(content))
        with pytest.raises(SystemExit, match=said):
            command(monkeypatch, root, *options)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"1": "Edema"}, "classes: .* is no list of texts"),
        ("Edema", "classes: .*'Edema' is no list of texts"),
        ([1, 2], r"classes: .*\[1, 2\] is no list of texts"),
        (["Edema", "Edema"], "classes: .*'Edema' is there twice"),
        (["Nodul"], r"none of \['Nodul'\] is the label of a box"),
    ],
)
def test_classes_that_would_lose_every_box_are_refused(root, tmp_path, monkeypatch, content, message):
    (tmp_path / "classes.json").write_text(json.dumps(content))
    options = ["--to", "coco", "--classes", tmp_path / "classes.json", "--target", tmp_path / "new"]
    with pytest.raises(SystemExit, match=message):
        command(monkeypatch, root, *options)
    assert not (tmp_path / "new").exists()


def test_a_conversion_of_which_no_box_is_left_is_refused(root, tmp_path, monkeypatch):
    (tmp_path / "images").symlink_to(root / "images")
    content = json.loads((root / "coco_train.json").read_text())
    for entry in content["annotations"]:
        entry["bbox"][2] = 0
    for split in ("train", "val"):
        (tmp_path / f"coco_{split}.json").write_text(json.dumps(content))
    with pytest.raises(SystemExit, match=r"folder: no box of .* is left"):
        command(monkeypatch, tmp_path, "--to", "coco", "--target", tmp_path / "new")


def test_without_a_validation_file_a_fifth_of_training_validates(root, tmp_path):
    (tmp_path / "images").symlink_to(root / "images")
    (tmp_path / "coco_annotations_train.json").write_text((root / "coco_train.json").read_text())
    whole = set(by_name(read_boxes(str(root), "train", classes=LABELS)))
    train, val = (set(by_name(read_boxes(str(tmp_path), split, classes=LABELS))) for split in ("train", "val"))
    assert train | val == whole and not train & val and val == {n for n in whole if fold(n.removesuffix(".png")) == 0}


def test_corners_in_a_coco_file_are_told_by_their_values(root, tmp_path, caplog):
    content = json.loads((root / "coco_train.json").read_text())
    for entry in content["annotations"]:
        x, y, width, height = entry["bbox"]
        entry["bbox"] = [x, y, x + width, y + height]
    (tmp_path / "images").symlink_to(root / "images")
    (tmp_path / "coco_train.json").write_text(json.dumps(content))
    (tmp_path / "coco_val.json").write_text((root / "coco_val.json").read_text())
    found = read_boxes(str(tmp_path), "train", classes=LABELS)
    assert by_name(found) == by_name(read_boxes(str(root), "train", classes=LABELS))
    assert "the boxes are read as x1, y1, x2, y2" in caplog.text


def test_dicom_is_read_with_its_look_up_and_written_as_png(tmp_path, monkeypatch):
    pydicom = pytest.importorskip("pydicom")
    pixels = np.linspace(0, 4095, 60 * 80).reshape(60, 80).astype(np.uint16)
    name = next(name for name in (f"image{i}" for i in range(40)) if fold(name) >= 2)
    (tmp_path / "train").mkdir()
    dicom = pydicom.Dataset()
    dicom.Rows, dicom.Columns, dicom.SamplesPerPixel, dicom.PhotometricInterpretation = 60, 80, 1, "MONOCHROME1"
    dicom.BitsAllocated, dicom.BitsStored, dicom.HighBit, dicom.PixelRepresentation = 16, 12, 11, 0
    dicom.PatientName, dicom.PixelData = "Secret^Name", pixels.tobytes()
    dicom.SOPClassUID, dicom.SOPInstanceUID = (
        pydicom.uid.DigitalXRayImageStorageForPresentation,
        pydicom.uid.generate_uid(),
    )
    dicom.file_meta = pydicom.dataset.FileMetaDataset()
    dicom.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dicom.save_as(tmp_path / "train" / f"{name}.dicom", enforce_file_format=True)
    lines = ["image_id,class_name,rad_id,x_min,y_min,x_max,y_max", f"{name},Cardiomegaly,R1,10,20,50,40"]
    (tmp_path / "train.csv").write_text("\n".join(lines))
    (case,) = read_boxes(str(tmp_path), "train", classes=LABELS)
    assert case["boxes"].tolist() == [[10, 20, 50, 40]]
    monkeypatch.setattr(convert_boxes, "read_splits", lambda root, classes: {"train": [case]})
    command(monkeypatch, tmp_path, "--to", "coco", "--target", tmp_path / "coco")
    with Image.open(tmp_path / "coco" / "images" / f"{name}.png") as image:
        written = np.asarray(image)
    np.testing.assert_allclose(written, 255 - pixels / 4095 * 255, atol=1)
    (tmp_path / "train" / f"{name}.dicom").write_bytes(b"DICM" * 50)
    with pytest.raises(ValueError, match=r"is damaged or no DICOM file|without an image"):
        read_boxes(str(tmp_path), "train", classes=LABELS)


def test_images_of_one_name_in_folders_of_their_own_are_told_apart(root, tmp_path, monkeypatch):
    content = json.loads((root / "annotation.json").read_text())
    for split in content.values():
        for entry in split:
            name = entry["image_path"][0]
            target = tmp_path / "set" / "images" / entry["id"] / "0.png"
            target.parent.mkdir(parents=True)
            target.write_bytes((root / "images" / name).read_bytes())
            entry["image_path"] = [f"{entry['id']}/0.png"]
    (tmp_path / "set" / "annotation.json").write_text(json.dumps(content))
    command(monkeypatch, tmp_path / "set", "--to", "coco", "--target", tmp_path / "coco")
    assert {name.replace("_0.png", ".png"): boxes for name, boxes in all_of(tmp_path / "coco").items()} == all_of(root)
    bare = {split: [{**e, "boxes": [], "box_labels": []} for e in entries] for split, entries in content.items()}
    (tmp_path / "bare.json").write_text(json.dumps(bare))
    options = ["--to", "annotation", "--studies", tmp_path / "bare.json", "--target", tmp_path / "new.json"]
    command(monkeypatch, tmp_path / "coco", *options)
    assert json.loads((tmp_path / "new.json").read_text()) == content


def test_boxes_in_pixels_of_another_size_are_refused(root, tmp_path):
    (tmp_path / "images").symlink_to(root / "images")
    content = json.loads((root / "coco_train.json").read_text())
    for entry in content["annotations"]:
        entry["bbox"] = [16 * value for value in entry["bbox"]]
    (tmp_path / "coco_train.json").write_text(json.dumps(content))
    (tmp_path / "coco_val.json").write_text((root / "coco_val.json").read_text())
    with pytest.raises(ValueError, match="boxes of split 'train' leave their images; are they in the pixels"):
        read_boxes(str(tmp_path), "train", classes=LABELS)


def test_the_window_of_a_dicom_file_is_its_range(tmp_path):
    pydicom = pytest.importorskip("pydicom")
    from common.images.dicom import read_dicom

    dicom = pydicom.Dataset()
    dicom.Rows, dicom.Columns, dicom.SamplesPerPixel, dicom.PhotometricInterpretation = 1, 3, 1, "MONOCHROME2"
    dicom.BitsAllocated, dicom.BitsStored, dicom.HighBit, dicom.PixelRepresentation = 16, 12, 11, 0
    dicom.WindowCenter, dicom.WindowWidth, dicom.NumberOfFrames = [2000, 50], [4000, 10], None
    dicom.PixelData = np.array([0, 1000, 4095], dtype=np.uint16).tobytes() + b"\0\0"
    dicom.SOPClassUID = pydicom.uid.DigitalXRayImageStorageForPresentation
    dicom.SOPInstanceUID = pydicom.uid.generate_uid()
    dicom.file_meta = pydicom.dataset.FileMetaDataset()
    dicom.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    dicom.save_as(tmp_path / "x.dcm", enforce_file_format=True)
    assert np.asarray(read_dicom(str(tmp_path / "x.dcm"))).tolist() == [[0, 64, 255]]
