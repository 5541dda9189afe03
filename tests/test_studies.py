"""Studies with reports: both forms, both encodings, one or six images, and what is refused in one line."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from common.datasets.annotation import load_annotation, save_annotation
from common.datasets.studies import read_studies


def picture(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.zeros((8, 8), np.uint8)).save(path)
    return path.name


def write(root, entries, *, name="new_Thyroid2.json", encoding="utf-8-sig"):
    content = {"train": entries, "val": entries[:1], "test": entries[:1]}
    root.mkdir(parents=True, exist_ok=True)
    (root / name).write_bytes(json.dumps(content, ensure_ascii=False).encode(encoding))


@pytest.fixture
def ultrasound(tmp_path):
    root = tmp_path / "us"
    images = [picture(root / "Thyroid_report" / f"7_{view}.png") for view in range(6)]
    entries = [
        {"uid": 7, "finding": "甲状腺大小形态如常。", "image_path": images, "labels": 3, "split": "train"},
        {"uid": 8, "finding": "左叶可见结节。", "image_path": images[:1], "labels": 0, "split": "train"},
        {"uid": 9, "finding": " ", "image_path": images[:2], "split": "train"},
    ]
    return root, entries


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-8", "gbk"])
def test_sgfs_form_in_every_encoding(ultrasound, encoding):
    root, entries = ultrasound
    write(root, entries, encoding=encoding)
    studies = read_studies(str(root), "train")
    assert [study["report"] for study in studies] == [
        "甲状腺大小形态如常。",
        "左叶可见结节。",
    ]  # the empty one is left out
    assert [len(study["images"]) for study in studies] == [2, 1] and studies[0]["images"][1].endswith("7_1.png")
    assert [study["label"] for study in studies] == [3, 0] and studies[0]["study"] == "7"
    assert len(read_studies(str(root), "train", views=4)[0]["images"]) == 4


def test_r2gens_form(tmp_path):
    image = picture(tmp_path / "images" / "a" / "0.png")
    write(
        tmp_path, [{"id": "CXR1", "report": "Clear.", "image_path": [f"a/{image}"], "split": "train"}], encoding="utf-8"
    )
    (study,) = read_studies(str(tmp_path), "validation")
    assert study == {"study": "CXR1", "report": "Clear.", "images": [str(tmp_path / "images/a/0.png")], "label": None}


def test_an_annotation_survives_its_file(ultrasound):
    root, entries = ultrasound
    save_annotation(root / "annotation.json", {"train": entries, "val": [], "test": []})
    assert load_annotation(root / "annotation.json")["train"] == entries
    assert [file.name for file in root.glob("*.part")] == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_path": ["../secret.png"]}, "leaves the data set's folder"),
        ({"image_path": []}, "study 7 of .* has no image"),
        ({"image_path": ["gone.png"]}, "image: no file"),
        ({"finding": None}, "no study with a report"),
        ({"image_path": "7_0.png"}, "image_path of study 7 of .* is '7_0.png', no list"),
        ({"labels": "n/a"}, "labels of study 7 of .* is 'n/a', no whole number"),
        ({"labels": -2}, "labels of study 7 of .* is -2, no whole number from -1"),
        ({"labels": True}, "labels of study 7 of .* is True, no whole number"),
        ({"finding": ["left", "right"]}, r"finding of study 7 of .*json' is \['left', 'right'\], no text"),
        ({"finding": {"text": "left"}}, "finding of study 7 of .*json' is {'text': 'left'}, no text"),
        ({"image_path": {"0": "7_0.png"}}, "image_path of study 7 of .*, no list"),
        ({"image_path": [3]}, r"image_path of study 7 of .* is \[3\], no file's names"),
    ],
)
def test_bad_entries_are_one_line(ultrasound, change, message):
    root, entries = ultrasound
    write(root, [{**entries[0], **change}])
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        read_studies(str(root), "train")


def test_a_number_is_a_report_and_noise_is_a_label(ultrasound):
    root, entries = ultrasound
    write(root, [{**entries[0], "finding": 12, "labels": -1}])
    (study,) = read_studies(str(root), "train")
    assert (study["report"], study["label"]) == ("12", -1)


def test_an_annotation_that_is_newer_than_its_copy_with_boxes_is_told(ultrasound, caplog):
    root, entries = ultrasound
    write(root, entries, name="a.json")
    write(root, entries[1:], name="a_with_boxes.json")
    os.utime(root / "a.json", (1, 1))
    assert len(read_studies(str(root), "train")) == 1 and "is older than" not in caplog.text
    os.utime(root / "a_with_boxes.json", (0, 0))
    for name in (None, "a_with_boxes.json"):
        caplog.clear()
        assert len(read_studies(str(root), "train", annotation=name)) == 1
        assert "a_with_boxes.json is older than a.json, whose changes are not read" in caplog.text


def test_bad_folders_are_one_line(ultrasound):
    root, entries = ultrasound
    with pytest.raises(FileNotFoundError, match="dataset_dir: no folder"):
        read_studies(str(root / "nowhere"), "train")
    with pytest.raises(ValueError, match=r"must hold one JSON file .*: no JSON file"):
        read_studies(str(root), "train")
    write(root, entries)
    write(root, entries, name="other.json")
    with pytest.raises(ValueError, match=r"holds \['new_Thyroid2\.json', 'other\.json'\]; pass --annotation"):
        read_studies(str(root), "train")
    assert len(read_studies(str(root), "train", annotation="other.json")) == 2
    with pytest.raises(FileNotFoundError, match=r"annotation: no file 'gone\.json', nor in"):
        read_studies(str(root), "train", annotation="gone.json")
    with pytest.raises(ValueError, match=r"split: 'tset' is none of \['train', 'validation', 'test'\]"):
        read_studies(str(root), "tset", annotation="other.json")
    (root / "other.json").write_text("[1]")
    assert len(read_studies(str(root), "train")) == 2  # no annotation, so it does not count
    (root / "new_Thyroid2.json").write_bytes("\u00e9".encode("utf-16"))
    with pytest.raises(
        ValueError,
        match=r"is no JSON .*has no list of studies 'train'",
    ):
        read_studies(str(root), "train")
    (root / "other.json").unlink()
    write(root, [{"uid": 1, "text": "a"}])
    with pytest.raises(ValueError, match=r"an entry with keys \['text', 'uid'\] has none of the forms"):
        read_studies(str(root), "train")


def test_the_published_folder_with_three_organs(tmp_path):
    for organ in ("Liver", "Thyroid"):
        image = picture(tmp_path / f"{organ}_report" / f"{organ}_1.png")
        entry = {"uid": 1, "finding": organ, "image_path": [image], "labels": 0}
        write(tmp_path, [entry], name=f"new_{organ}2.json")
    (study,) = read_studies(str(tmp_path), "test", annotation="new_Thyroid2.json")
    assert study["images"] == [str(tmp_path / "Thyroid_report" / "Thyroid_1.png")]
