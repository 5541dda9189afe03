"""``cases.csv`` for every bundle: written from a known layout and read as that is, and what a person types into one."""

import csv
import json

import numpy as np
import pytest
from d2rnet.report.boxes import read_boxed_studies
from PIL import Image

from common.cli.check import main
from common.cli.reading import read_text
from common.datasets.layouts import list_dataset, read_dataset
from common.datasets.malignancy import read_malignancy
from common.datasets.studies import read_studies
from common.synthetic.studies import StudyOptions, write_studies
from common.synthetic.thyroid import ThyroidOptions, write_synthetic


def images(folder, count=6):
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        Image.fromarray(np.full((32, 32), 20 * number, np.uint8)).save(folder / f"{number}.png")
        mask = np.zeros((32, 32), np.uint8)
        mask[8:20, 8:20] = 255
        Image.fromarray(mask).save(folder / f"{number}_mask.png")


def table(folder, header, *rows):
    images(folder)
    (folder / "cases.csv").write_text("\n".join([header, *rows]), encoding="utf-8")
    return str(folder)


@pytest.mark.parametrize("bundle", ["akessfa", "sgf"])
def test_a_known_layout_becomes_a_table_and_is_read_as_before(bundle, tmp_path):
    if bundle == "akessfa":
        write_synthetic(str(tmp_path / "set"), ThyroidOptions(reports=12, size=32))
    else:
        write_studies(str(tmp_path / "set"), StudyOptions(studies=12, size=32))
    read = read_dataset if bundle == "akessfa" else read_studies
    before = {split: read(str(tmp_path / "set"), split) for split in ("train", "validation", "test")}
    assert main([str(tmp_path / "set"), "--bundle", bundle, "--table", str(tmp_path / "cases.csv")]) == 0
    for file in (tmp_path / "set").glob("*.json"):
        file.unlink()
    (tmp_path / "cases.csv").rename(tmp_path / "set" / "cases.csv")
    for split, cases in before.items():
        keys = ("image", "label", "report", "case") if bundle == "akessfa" else ("study", "report", "images")
        after = read(str(tmp_path / "set"), split)
        assert [{key: case[key] for key in keys} for case in cases] == [{k: case[k] for k in keys} for case in after]


def test_reports_in_files_classes_in_words_and_semicolons(tmp_path):
    rows = [f"{n}.png;{n}_mask.png;{n}.txt;{'Malignant' if n % 2 else 'benign'};P{n // 2};train" for n in range(6)]
    root = table(tmp_path, "image;mask;report_file;label;patient_id;split", *rows)
    for number in range(6):
        (tmp_path / f"{number}.txt").write_text(f"Nodule {number}.", encoding="utf-8")
    cases = read_malignancy(root, "train")
    assert [case["malignancy"] for case in cases] == [0, 1] * 3 and cases[5]["report"] == "Nodule 5."
    assert [case["case"] for case in cases] == ["P0", "P0", "P1", "P1", "P2", "P2"]


def test_several_images_in_a_row(tmp_path):
    header = "image_1,image_2,mask_1,mask_2,report,patient_id,split"
    root = table(tmp_path, header, "0.png,1.png,0_mask.png,1_mask.png,Two.,A,train", "2.png,,2_mask.png,,One.,B,train")
    assert [case["image"][-5:] for case in read_dataset(root, "train")] == ["0.png", "1.png", "2.png"]
    root = table(tmp_path / "studies", "image_1,image_2,report,patient_id,split", "0.png,1.png,Two.,A,train",
                 "2.png,,One.,B,train", "3.png,4.png,Again.,A,train")  # fmt: skip
    studies = read_studies(root, "train")
    assert [(study["study"], len(study["images"])) for study in studies] == [("A", 2), ("B", 1), ("A_2", 2)]


def test_boxes_of_a_chest_x_ray(tmp_path):
    boxes = json.dumps([[2, 3, 10, 12]]).replace('"', '""')
    row = f'0.png,Text.,A,train,"{boxes}","[""Mass""]"'
    (study,) = read_boxed_studies(table(tmp_path, "image,report,patient_id,split,boxes,box_labels", row), "train")
    assert study["boxes"].tolist() == [[2, 3, 12, 15]] and study["box_labels"] == ["Mass"]


@pytest.mark.parametrize(
    ("boxes", "labels", "message"),
    [
        ([1, 2, 3, 4], None, "1 are not four numbers each"),
        ({"x": 1}, None, "boxes is {'x': 1}, no list"),
        ([[1, 2, float("nan"), 4]], None, "hold a value that is no number"),
        ([[1, 2, 3, 4]], ["Mass", "Edema"], "1 boxes but 2 box_labels"),
    ],
)
def test_a_check_tells_boxes_that_a_training_refuses(tmp_path, caplog, boxes, labels, message):
    told = [json.dumps(value).replace('"', '""') if value else "" for value in (boxes, labels)]
    rows = [f'0.png,Text.,A,train,"{told[0]}","{told[1]}"', "1.png,Text.,B,validation,,", "2.png,Text.,C,test,,"]
    root = table(tmp_path, "image,report,patient_id,split,boxes,box_labels", *rows)
    with pytest.raises(ValueError, match=f"boxes of study 'A': .*{message}"):
        read_boxed_studies(root, "train")
    caplog.set_level("INFO")
    assert main([root, "--bundle", "d2rnet"]) == 1
    assert "broken boxes (1)" in caplog.text and message in caplog.text and "d2rnet can train" not in caplog.text
    assert main([root, "--bundle", "sgf"]) == 0


FAULTS = {
    "no report": (
        "image,mask,text,patient_id",
        "0.png,0_mask.png,x,A",
        r"no column 'report' .*\['image', 'mask', 'text'",
    ),
    "no image": ("picture,mask,report", "0.png,0_mask.png,x", "cases.csv"),
    "no mask named": ("image,mask,report,patient_id,split", "0.png,,x,A,train", "'0.png' has no mask"),
    "another class": ("image,mask,label,patient_id,split", "0.png,0_mask.png,unsure,A,train", "label 'unsure'"),
    "climbs": ("image,mask,report_file,patient_id,split", "0.png,0_mask.png,../x.txt,A,train", r"\.\./x\.txt"),
    "no file": ("image,mask,report_file,patient_id,split", "0.png,0_mask.png,x.txt,A,train", "x.txt"),
    "twice": ("image,mask,report,patient_id,split", "0.png,0_mask.png,x,A,train\n./0.png,0_mask.png,x,B,test", "0.png"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_is_wrong_is_named(name, tmp_path):
    header, rows, told = FAULTS[name]
    with pytest.raises((ValueError, FileNotFoundError), match=told):
        read_dataset(table(tmp_path, header, rows), "train")


def test_a_study_needs_a_report_and_boxes_are_json(tmp_path):
    with pytest.raises(ValueError, match=r"or a table cases\.csv with image and report"):
        read_studies(table(tmp_path / "a", "image,label,split", "0.png,0,train"), "train")
    with pytest.raises(ValueError, match=r"boxes '1 2 3 4' .* is no JSON list"):
        read_studies(table(tmp_path / "b", "image,report,boxes,split", "0.png,x,1 2 3 4,train"), "train")


def test_a_patients_images_stay_in_one_split(tmp_path):
    """Two reports of one patient; rows with and without a split; and studies."""
    columns = "image,mask,report_id,patient,report"
    rows = [f"{n}.png,{n}_mask.png,R{n},P{n // 2},x" for n in range(6)]
    root = table(tmp_path / "a", columns, *rows)
    splits = [{case["case"] for case in read_dataset(root, split)} for split in ("train", "validation", "test")
              if any(case for case in list_dataset(root, split)[1])]  # fmt: skip
    assert set().union(*splits) <= {"P0", "P1", "P2"} and sum(map(len, splits)) == len(set().union(*splits))
    rows = ["0.png,0_mask.png,x,A,train", "1.png,1_mask.png,x,A,test"]
    with pytest.raises(ValueError, match="patient 'A' is in 'train' and, in line 3, in 'test'"):
        read_dataset(table(tmp_path / "b", "image,mask,report,patient_id,split", *rows), "train")
    with pytest.raises(ValueError, match="patient 'A' is in 'train' and, in line 3, in 'test'"):
        read_studies(table(tmp_path / "c", "image,mask,report,patient_id,split", *rows), "train")
    with pytest.raises(ValueError, match=r"line 2 .* names no image"):
        read_dataset(table(tmp_path / "d", "image,mask,report,split", ",0_mask.png,x,train"), "train")


def test_boxes_go_along_and_nothing_is_overwritten(tmp_path, caplog):
    entry = {"id": "A", "report": "x", "image_path": ["0.png"], "boxes": [[1, 2, 10, 10]], "box_labels": ["Mass"]}
    images(tmp_path / "images")
    splits = {split: [{**entry, "id": f"{split}", "image_path": [f"{n}.png"]}] for n, split in
              enumerate(("train", "val", "test"))}  # fmt: skip
    (tmp_path / "annotation.json").write_text(json.dumps(splits))
    before = read_boxed_studies(str(tmp_path), "train")
    command = [str(tmp_path), "--bundle", "d2rnet", "--table", str(tmp_path / "cases.csv")]
    assert main(command) == 0 and main(command) == 2 and "is there already" in caplog.text
    assert [s["study"] for s in read_studies(str(tmp_path), "train")] == ["train"]  # the annotation is the set's own
    (tmp_path / "annotation.json").unlink()
    after = read_boxed_studies(str(tmp_path), "train")
    assert after[0]["boxes"].tolist() == before[0]["boxes"].tolist() and after[0]["box_labels"] == ["Mass"]


def test_templated_reports_are_not_written_as_the_sets_own(tmp_path):
    images(tmp_path / "image")
    (tmp_path / "mask").mkdir()
    for number in range(6):
        (tmp_path / "image" / f"{number}_mask.png").rename(tmp_path / "mask" / f"{number}.png")
    lines = [f"{n}.png,{case},4a" for n, case in enumerate("abcdef")]
    (tmp_path / "cases.csv").write_text("\n".join(["image,case,tirads", *lines]))
    assert any(
        case["report"] for split in ("train", "validation", "test") for case in list_dataset(str(tmp_path), split)[1]
    )
    main([str(tmp_path), "--bundle", "akessfa", "--table", str(tmp_path / "new.csv")])
    written = list(csv.DictReader((tmp_path / "new.csv").read_text().splitlines()))
    assert len(written) == 6 and not any(row["report"] for row in written) and written[0]["tirads"] == "4a"


def test_without_patients_each_row_is_one_and_that_is_told(tmp_path, caplog):
    rows = [f"{n}.png,{n}_mask.png,x,train" for n in range(3)]
    cases = read_dataset(table(tmp_path, "image,mask,report,split", *rows), "train")
    assert len({case["case"] for case in cases}) == 3 and "each row is taken for a patient" in caplog.text


def test_rows_without_a_patient_or_a_split_are_counted(tmp_path, caplog):
    rows = [f"{n}.png,{n}_mask.png,x,{'p1' if n else ''},{'train' if n else ''}" for n in range(3)]
    read_dataset(table(tmp_path, "image,mask,report,patient_id,split", *rows), "train")
    assert "1 rows without a patient_id" in caplog.text and "1 rows without a split" in caplog.text


def test_an_empty_label_leaves_the_class_to_malignant_and_contradictions_are_named(tmp_path):
    rows = [f"{n}.png,{n}_mask.png,,{n % 2},p{n},train" for n in range(4)]
    root = table(tmp_path, "image,mask,label,malignant,patient_id,split", *rows)
    assert [case["malignant"] for case in read_malignancy(root, "train")] == ["0", "1", "0", "1"]
    table(tmp_path, "image,mask,label,malignant,patient_id,split", "0.png,0_mask.png,benign,1,p,train")
    with pytest.raises(ValueError, match=r"'p' has label 'benign' and malignant '1'; correct one"):
        read_malignancy(root, "train")


@pytest.mark.parametrize(
    "text",
    ["The patient\u2019s left lobe", "M\u00fcller has a nodule", "Foie h\u00e9t\u00e9rog\u00e8ne.", "\u00d6dem rechts",
     "Nodule \u00e9chog\u00e8ne, \u00e9l\u00e9ment"],
)  # fmt: skip
def test_accents_of_another_encoding_do_not_become_chinese(tmp_path, text):
    root = table(tmp_path, "image,mask,report,split", "0.png,0_mask.png,x,train")
    (tmp_path / "cases.csv").write_bytes(f"image,mask,report,split\n0.png,0_mask.png,{text},train".encode("cp1252"))
    with pytest.raises(ValueError, match="seems to have accents in Windows' encoding; save it as UTF-8"):
        read_dataset(root, "train")


@pytest.mark.parametrize(
    "text", ["CT\u793a\uff1a\u65e0", "B\u8d85", "id,sex\nP1,\u7537\nXF\u5973,1", "3mm\u7ed3\u8282\uff0c\u5de6\u53f6"]
)
def test_short_texts_in_gbk_are_read(tmp_path, text):
    (tmp_path / "a.txt").write_bytes(text.encode("gb18030"))
    assert read_text(tmp_path / "a.txt", what="report") == text


def test_an_empty_table_is_called_so(tmp_path):
    (tmp_path / "cases.csv").touch()
    with pytest.raises(ValueError, match=r"its cases\.csv is empty"):
        read_dataset(str(tmp_path), "train")


def test_lines_are_those_of_the_file_where_reports_have_several(tmp_path):
    rows = ['0.png,0_mask.png,"first\nsecond\nthird",a,train', "1.png,,x,b,train"]
    with pytest.raises(ValueError, match=r"line 5 of .* '1\.png' has no mask"):
        read_dataset(table(tmp_path, "image,mask,report,patient_id,split", *rows), "train")
