"""MIMIC-CXR's own folders are studies like any others; large sets are read in little time and memory."""

import csv
import gzip
import json
import sys

import numpy as np
import pytest
from PIL import Image
from sgf.semantic_space import SemanticSpace

from common.datasets import annotation, mimic, packed
from common.datasets.inspection import inspect
from common.datasets.mimic import main, read_mimic, report_of, sections_of
from common.datasets.packed import Packed
from common.datasets.studies import read_studies
from common.text.tokenizer import ReportTokenizer

REPORT = """                                 FINAL REPORT
 EXAMINATION:  CHEST (PA AND LAT)

 INDICATION:  ___F with cough

 FINDINGS:

 The lungs are clear.
 No effusion: none is seen.

 IMPRESSION:

 No acute process.
"""


def write(root, studies=6, *, packed_tables=False, folder="mimic-cxr-reports/files"):
    """Three patients with two studies each, of two images, a study each in validation and test."""
    rows, views, labels = [], [], []
    for number in range(studies):
        patient, study = 10000032 + number // 2, 50000000 + number
        split = {studies - 2: "validate", studies - 1: "test"}.get(number, "train")
        for image, view in (("b" * 8, "LATERAL"), ("c" * 8, "AP")):
            place = root / "files" / f"p{str(patient)[:2]}" / f"p{patient}" / f"s{study}"
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((64, 48), number, np.uint8)).save(place / f"{image}{number}.jpg")
            rows.append([f"{image}{number}", study, patient, split])
            views.append([f"{image}{number}", patient, view])
        labels.append([patient, study, *(["1.0", "-1.0"] + [""] * 12)])
        text = root / folder / f"p{str(patient)[:2]}" / f"p{patient}" / f"s{study}.txt"
        text.parent.mkdir(parents=True, exist_ok=True)
        text.write_text(REPORT if number else "no section at all")
    tables = {"split": (["dicom_id", "study_id", "subject_id", "split"], rows),
              "metadata": (["dicom_id", "subject_id", "ViewPosition"], views),
              "chexpert": (["subject_id", "study_id", *mimic.OBSERVATIONS], labels)}  # fmt: skip
    for name, (header, content) in tables.items():
        opener, end = (gzip.open, ".gz") if packed_tables else (open, "")
        with opener(root / f"mimic-cxr-2.0.0-{name}.csv{end}", "wt", newline="") as file:
            csv.writer(file).writerows([header, *content])
    return root


@pytest.mark.parametrize(("packed_tables", "folder"), [(False, "mimic-cxr-reports/files"), (True, "files")])
def test_the_folders_are_studies(tmp_path, packed_tables, folder):
    root = write(tmp_path, packed_tables=packed_tables, folder=folder)
    train, validation, test = (read_studies(str(root), split) for split in ("train", "validation", "test"))
    assert [study["study"] for study in train] == ["s50000001", "s50000002", "s50000003"]  # the first has no report
    assert [len(part) for part in (validation, test)] == [1, 1] and train[0]["case"] == "p10000032"
    assert train[0]["report"] == "The lungs are clear. No effusion: none is seen."
    assert [path[-13:] for path in train[0]["images"]] == ["cccccccc1.jpg", "bbbbbbbb1.jpg"]  # frontal views first
    (findings,) = {tuple(entry["findings"].items()) for entry in read_mimic(root)["val"]}
    assert findings == (("Atelectasis", 1), ("Cardiomegaly", -1))


def test_an_annotation_of_them_reads_alike(tmp_path, monkeypatch, caplog):
    root = write(tmp_path)
    before = [list(read_studies(str(root), split)) for split in ("train", "validation", "test")]
    monkeypatch.setattr(sys, "argv", ["mimic", str(root)])
    main()
    again = [list(read_studies(str(root), split)) for split in ("train", "validation", "test")]
    assert before == again
    with pytest.raises(SystemExit, match="is there already"):
        main()
    with pytest.raises(SystemExit, match="pass MIMIC-CXR's own"):
        monkeypatch.setattr(sys, "argv", ["mimic", str(tmp_path / "files")])
        main()


def test_what_is_missing_is_named(tmp_path):
    root = write(tmp_path)
    table = root / "mimic-cxr-2.0.0-split.csv"
    table.write_text(table.read_text().replace("validate", "holdout"))
    with pytest.raises(ValueError, match="has the split 'holdout', which is none of"):
        read_studies(str(root), "train")
    table.write_text("dicom_id,study_id\n")
    with pytest.raises(ValueError, match="has no column 'subject_id'"):
        read_studies(str(root), "train")
    for text in root.rglob("*.txt"):
        text.unlink()
    with pytest.raises(FileNotFoundError, match=r"unpack mimic-cxr-reports\.zip there"):
        read_studies(str(root), "train")


def lines_of(file):
    return file.read_text().splitlines()


def cut(root):
    file = root / "mimic-cxr-2.0.0-split.csv"
    packed_file = root / "mimic-cxr-2.0.0-split.csv.gz"
    packed_file.write_bytes(gzip.compress(file.read_bytes())[:-20])
    file.unlink()


def no_gzip(root):
    file = root / "mimic-cxr-2.0.0-split.csv"
    file.rename(file.with_suffix(".csv.gz"))


def changed(name, line, old, new):
    """A function that changes a line of a table."""

    def change(root):
        file = root / f"mimic-cxr-2.0.0-{name}.csv"
        lines = lines_of(file)
        assert old in lines[line - 1]
        lines[line - 1] = lines[line - 1].replace(old, new, 1)
        file.write_text("\n".join(lines))

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (cut, r"split\.csv\.gz' is damaged"),
        (no_gzip, r"split\.csv\.gz' is damaged"),
        (changed("split", 3, ",train", ""), r"line 3 of .*split\.csv' has 3 cells, the header 4"),
        (changed("split", 3, ",train", ",test"), r"split\.csv': study '50000000' is in 'train' of .* and in 'test'"),
        (
            changed("split", 3, ",10000032,", ",10000077,"),
            "study '50000000' is in 'train' of p10000032 and .* p10000077",
        ),
        (changed("chexpert", 2, "1.0", "yes"), r"Atelectasis in line 2 of .*chexpert\.csv' is 'yes'"),
        (changed("chexpert", 2, "-1.0", "2.0"), r"Cardiomegaly in line 2 of .*chexpert\.csv' is '2.0'"),
        (changed("chexpert", 2, "-1.0", "0.7"), r"Cardiomegaly in line 2 of .*chexpert\.csv' is '0.7'"),
    ],
)
def test_damaged_tables_are_one_line(tmp_path, change, message):
    root = write(tmp_path)
    change(root)
    with pytest.raises(ValueError, match=message) as caught:
        read_studies(str(root), "train")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cell", ["nan", "NaN", " "])
def test_blank_labels_are_none(tmp_path, cell):
    root = write(tmp_path)
    changed("chexpert", 6, "1.0", cell)(root)
    (entry,) = read_mimic(root)["val"]
    assert entry["findings"] == {"Cardiomegaly": -1}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (REPORT, "The lungs are clear. No effusion: none is seen."),
        ("IMPRESSION:  Clear.\n", "Clear."),
        ("FINDINGS:\n\nIMPRESSION: One.\n", "One."),
        ("FINDINGS AND IMPRESSION: Both.\n", "Both."),
        ("INDICATION: cough\n", ""),
    ],
)
def test_the_report_is_a_section(tmp_path, text, expected):
    (tmp_path / "r.txt").write_text(text)
    assert report_of(tmp_path / "r.txt") == expected and report_of(tmp_path / "none.txt") == ""
    assert "EXAMINATION" in sections_of(REPORT)


def test_large_sets_are_packed(tmp_path, monkeypatch):
    root = write(tmp_path)
    plain = read_studies(str(root), "train")
    monkeypatch.setattr(packed, "LARGE", 2)
    many = read_studies(str(root), "train")
    assert isinstance(many, Packed) and list(many) == plain and many[-1] == plain[-1] and many[1:] == plain[1:]
    with pytest.raises(IndexError):
        many[3]


def test_an_image_path_is_found_below_files(tmp_path):
    root = write(tmp_path)
    entries = {name: read_mimic(root)[name] for name in annotation.SPLITS.values()}
    (root / "annotation.json").write_text(json.dumps(entries))
    assert read_studies(str(root), "test")[0]["images"][0].startswith(str(root / "files"))


def test_a_validation_takes_the_same_studies_each_time(tmp_path):
    root = str(write(tmp_path, studies=12))
    whole = [study["study"] for study in read_studies(root, "train")]
    some = [study["study"] for study in read_studies(root, "train", most=4)]
    assert len(some) == 4 and set(some) < set(whole) and some == sorted(some)
    assert {study["study"] for study in read_studies(root, "train", most=2)} < set(some)
    assert len(read_studies(root, "train", most=100)) == len(whole)
    with pytest.raises(ValueError, match="val_studies: 0 is below 1"):
        read_studies(root, "train", most=0)


def test_a_check_reads_the_folders(tmp_path):
    root = write(tmp_path)
    found = inspect(str(root), "d2rnet")
    assert found.layout == "studies with reports: MIMIC-CXR's folders and tables"
    assert len(found.files) == 10 and not {"missing", "damaged"} & set(found.faults)
    (root / "files/p10/p10000033/s50000002/cccccccc2.jpg").write_bytes(b"no image")
    assert len(inspect(str(root), "sgf").faults["damaged"]) == 1


def test_embeddings_of_many_studies_are_packed(monkeypatch):
    studies = [{"study": str(i), "report": f"A {word} nodule."} for i, word in enumerate(("solid", "cystic", "mixed"))]
    tokenizer = ReportTokenizer.fit([study["report"] for study in studies])
    space = SemanticSpace(tokenizer=tokenizer, vocab_size=16, dims=4, studies=studies)
    plain = space.with_embeddings(studies)
    monkeypatch.setattr(packed, "LARGE", 2)
    many = space.with_embeddings(studies)
    assert isinstance(many, Packed) and many[0]["embedding"].dtype == np.float32
    assert all((a["embedding"] == b["embedding"]).all() for a, b in zip(plain, many, strict=True))
    with pytest.raises(TypeError, match="Tensor cannot be packed"):
        Packed([{"embedding": space.words}])
