"""Readers of labelled boxes: COCO, VinDr's csv with three readers, bad entries."""

import json

import numpy as np
import pytest
from PIL import Image

from common.datasets.box_fusion import fuse
from common.datasets.boxes import LABELS, read_boxes
from common.datasets.splits import fold
from common.synthetic.chest import ChestOptions, write_chests


def test_synthetic_chests_read_back(tmp_path):
    write_chests(str(tmp_path / "set"), ChestOptions(studies=20, size=64))
    coco = json.loads((tmp_path / "set" / "coco_train.json").read_text())
    cases = read_boxes(str(tmp_path / "set"), "train", classes=LABELS)
    assert len(cases) == len(coco["images"]) and sum(len(case["boxes"]) for case in cases) == len(coco["annotations"])
    x, y, w, h = coco["annotations"][0]["bbox"]
    first = next(case for case in cases if len(case["boxes"]))
    assert first["boxes"][0].tolist() == pytest.approx([x, y, x + w, y + h], abs=1e-4)
    assert first["labels"][0] == coco["annotations"][0]["category_id"] - 1


@pytest.fixture
def vindr(tmp_path):
    """Two images of the training folds; three readers of the first agree on one lesion, one sees another."""
    names = [name for name in (f"image{i}" for i in range(40)) if fold(name) >= 2][:2]
    (tmp_path / "train").mkdir()
    for name in names:
        Image.new("L", (100, 80)).save(tmp_path / "train" / f"{name}.png")
    lines = ["image_id,class_name,rad_id,x_min,y_min,x_max,y_max"]
    lines += [f"{names[0]},Cardiomegaly,R{i},{10 + i},20,{50 + i},60" for i in range(3)]
    lines += [f"{names[0]},Nodule/Mass,R1,70,10,80,20", f"{names[0]},Strange,R1,1,1,5,5"]
    lines += [f"{names[1]},No finding,R{i},,,," for i in range(3)]
    (tmp_path / "train.csv").write_text("\n".join(lines))
    return tmp_path, names


def test_three_readers_become_one_box_and_no_finding_none(vindr, caplog):
    root, _ = vindr
    first, second = read_boxes(str(root), "train", classes=LABELS)
    assert first["boxes"].tolist() == [[11, 20, 51, 60], [70, 10, 80, 20]]
    assert [LABELS[label] for label in first["labels"]] == ["Cardiomegaly", "Nodule/Mass"]
    assert second["boxes"].shape == (0, 4) and "all of ['Strange'] left out" in caplog.text


def test_fusion_keeps_boxes_apart_that_hardly_overlap():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 12], [8, 8, 20, 20]], dtype=float)
    assert fuse(boxes).tolist() == [[0, 0, 10, 11], [8, 8, 20, 20]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bbox": [1, 2, float("nan"), 4]}, "hold a value that is no number"),
        ({"bbox": [1, 2, 3]}, r"boxes of image '1' in .*coco_val.json': \[1, 2, 3\] are not four numbers each"),
        ({"bbox": None}, "None are not four numbers each"),
        ({"bbox": "1234"}, "'1234' are not four numbers each"),
        ({"category_id": 99}, "is no COCO file of boxes"),
    ],
)
def test_bad_entries_are_named(tmp_path, change, message):
    write_chests(str(tmp_path / "set"), ChestOptions(studies=20, size=64))
    file = tmp_path / "set" / "coco_val.json"
    content = json.loads((tmp_path / "set" / "coco_train.json").read_text())
    content["annotations"][0] |= change
    file.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        read_boxes(str(tmp_path / "set"), "val", classes=LABELS)


def test_missing_files_are_named(tmp_path, vindr):
    with pytest.raises(FileNotFoundError, match="has no coco_test"):
        read_boxes(str(tmp_path / "train"), "test", classes=LABELS)
    root, names = vindr
    (root / "train" / f"{names[0]}.png").unlink()
    with pytest.raises(FileNotFoundError, match=names[0]):
        read_boxes(str(root), "train", classes=LABELS)


@pytest.fixture
def annotated(tmp_path):
    """A function that changes the first training entry of an annotation with boxes, and returns its folder."""
    write_chests(str(tmp_path / "made"), ChestOptions(studies=20, size=64))
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "images").symlink_to(tmp_path / "made" / "images")

    def write(**changes):
        content = json.loads((tmp_path / "made" / "annotation.json").read_text())
        content["train"][0] |= {"boxes": [[1, 2, 9, 9]], "box_labels": ["Edema"], "scores": [1.0], "id": "X9"} | changes
        (tmp_path / "set" / "annotation.json").write_text(json.dumps(content))
        return str(tmp_path / "set")

    return write


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"boxes": None}, "a box_label for each is missing"),
        ({"boxes": [None]}, "None are not four numbers each"),
        ({"boxes": [1, 2, 9, 9]}, "4 boxes but 1 box_labels"),
        ({"boxes": [7]}, "7 are not four numbers each"),
        ({"boxes": ["1299"]}, "'1299' are not four numbers each"),
        ({"boxes": [{"x": 1}]}, "'x': 1} are not four numbers each"),
        ({"boxes": [[[1, 2, 9, 9]]]}, "are not four numbers each"),
        ({"boxes": [[1, 2, None, 9]]}, "are not four numbers each"),
        ({"boxes": {"0": [1, 2, 9, 9]}}, "boxes is .*, no list"),
        ({"box_labels": "Edema"}, "box_labels is 'Edema', no list"),
        ({"box_labels": [3]}, "the label 3 is no text"),
        ({"box_labels": [None]}, "the label None is no text"),
        ({"image_path": None}, "has no image"),
        ({"image_path": 5}, "image_path of .* is 5, no list"),
        ({"image_path": {"a": 1}}, "image_path of .*, no list"),
        ({"image_path": "X0.png"}, "image_path of .* is 'X0.png', no list"),
        ({"image_path": [None]}, r"image_path of .* is \[None\], no file's names"),
        ({"width": 32, "height": 32}, "the image is 32x32 pixels, its file .*png' is 64x64; restore"),
    ],
)
def test_bad_boxes_of_studies_are_one_line(annotated, changes, message):
    root = annotated()
    assert len(read_boxes(root, "train", classes=LABELS)[0]["boxes"]) == 1
    with pytest.raises(ValueError, match=message) as caught:
        read_boxes(annotated(**changes), "train", classes=LABELS)
    assert "\n" not in str(caught.value) and ("width" in changes or "study 'X9' of " in str(caught.value))


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["Nodul", "Masse"], r"label_names: none of \['Nodul', 'Masse'\] is the label .* whose labels are \['Aort"),
        (["Edema", "Edema"], "label_names: 'Edema' is there twice"),
        ([], r"label_names: \[\] is no list of texts"),
        ("Edema", "label_names: 'Edema' is no list of texts"),
    ],
)
def test_labels_that_no_box_has_are_refused(annotated, classes, message):
    with pytest.raises(ValueError, match=message):
        read_boxes(annotated(), "train", classes=classes)


def test_a_split_may_lack_the_labels_of_another(annotated):
    root = annotated(box_labels=["Rare"])
    assert not any(len(case["boxes"]) for case in read_boxes(root, "test", classes=["Rare"]))
