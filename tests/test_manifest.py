"""A manifest of a check is trusted where it is fresh, and where it is not, that is said and files are looked at."""

import json
import os
import shutil

import pytest
from PIL import Image

from common.cli.check import main
from common.datasets import inspection
from common.datasets.layouts import read_dataset
from common.datasets.studies import read_studies
from common.images import files
from common.synthetic.studies import StudyOptions, write_studies

LOOKS = ("check_image", "require_image")


@pytest.fixture
def ratn(synthetic, tmp_path):
    return shutil.copytree(synthetic, tmp_path / "set")


def checked(folder, bundle):
    code = main([str(folder), "--bundle", bundle, "--manifest", str(folder / "checked_files.json")])
    return code, json.loads((folder / "checked_files.json").read_text())


@pytest.fixture
def looked(monkeypatch):
    """Files that were looked at."""
    seen = []
    for name in LOOKS:
        real = getattr(files, name)
        monkeypatch.setattr(
            files, name, lambda path, real=real, **options: (seen.append(path), real(path, **options))[1]
        )
    return seen


def test_nobody_looks_again(ratn, looked, caplog):
    expected = read_dataset(str(ratn), "train")
    assert looked
    code, content = checked(ratn, "akessfa")
    assert code == 0 and not content["damaged"]
    looked.clear()
    caplog.set_level("INFO")
    assert read_dataset(str(ratn), "train") == expected and not looked
    assert "size and time of" in caplog.text


def test_names_are_those_of_any_way_to_the_folder(ratn, looked, monkeypatch):
    checked(ratn, "akessfa")
    monkeypatch.chdir(ratn.parent)
    for root in ("set", "./set/", str(ratn) + "/", "set/../set"):
        looked.clear()
        read_dataset(root, "train")
        assert not looked, root


def test_studies_have_one_too_and_it_is_no_annotation(tmp_path, looked):
    root = tmp_path / "set"
    write_studies(str(root), StudyOptions(studies=24, size=32, seed=1))
    expected = list(read_studies(str(root), "train"))
    checked(root, "sgf")
    looked.clear()
    assert list(read_studies(str(root), "train")) == expected and not looked


def test_what_the_check_found_ends_a_training_at_its_start(ratn):
    cases = read_dataset(str(ratn), "train")
    with open(cases[-1]["image"], "r+b") as file:
        file.truncate(60)
    Image.new("L", (5, 5)).save(cases[-2]["label"])
    code, content = checked(ratn, "akessfa")
    assert code == 1 and len(content["damaged"]) == 3
    with pytest.raises(
        ValueError, match=r"checked_files\.json: 3 of \d+ files cannot be used, such as .* --skip_damaged true"
    ):
        read_dataset(str(ratn), "train")
    assert len(read_dataset(str(ratn), "train", check=False)) == len(cases)


@pytest.mark.parametrize("change", ["time", "size", "gone", "new"])
def test_one_that_is_out_of_date_is_not_trusted(ratn, looked, caplog, change):
    checked(ratn, "akessfa")
    case = read_dataset(str(ratn), "train")[0]
    if change == "time":
        os.utime(case["image"], (1, 1))
    elif change == "size":
        Image.open(case["image"]).resize((64, 64)).save(case["image"], compress_level=0)
    elif change == "gone":
        os.remove(case["image"])
    else:
        content = json.loads((ratn / "checked_files.json").read_text())
        content["files"].popitem()
        del content["files"][os.path.relpath(case["image"], ratn)]
        (ratn / "checked_files.json").write_text(json.dumps(content))
    looked.clear()
    if change == "gone":
        with pytest.raises(FileNotFoundError, match="no file"):
            read_dataset(str(ratn), "train")
    else:
        read_dataset(str(ratn), "train")
    assert looked and "not trusted" in caplog.text


@pytest.mark.parametrize("content", ['{"name": "my app"}', "no JSON", '{"files": {"a": 1}}', '{"files": {}}', "[]"])
def test_another_programs_file_is_neither_trusted_nor_overwritten(ratn, caplog, content):
    (ratn / "checked_files.json").write_text(content)
    assert read_dataset(str(ratn), "train")
    assert "not trusted, it is none that python -m common.cli.check writes" in caplog.text
    assert main([str(ratn), "--bundle", "akessfa", "--manifest", str(ratn / "checked_files.json")]) == 2
    assert "is there and no manifest" in caplog.text and (ratn / "checked_files.json").read_text() == content


@pytest.mark.parametrize("fault", ["damaged", "missing", "size"])
def test_what_was_mended_is_not_refused(ratn, fault, caplog):
    case = read_dataset(str(ratn), "train")[-1]
    whole = shutil.copy(case["image"], ratn.parent / "whole.png")
    if fault == "damaged":
        with open(case["image"], "r+b") as file:
            file.truncate(60)
    elif fault == "missing":
        os.remove(case["image"])
    else:
        Image.new("L", (5, 5)).save(case["image"])
    checked(ratn, "akessfa")
    with pytest.raises(ValueError, match=r"cannot be used"):
        read_dataset(str(ratn), "train")
    shutil.copy(whole, case["image"])
    assert read_dataset(str(ratn), "train")
    assert "is another file by now; run python -m common.cli.check again" in caplog.text


def test_the_time_is_that_of_the_look(ratn, monkeypatch):
    """A file that takes another's place while the check goes on is not told as sound."""
    case = read_dataset(str(ratn), "train")[0]
    before = os.stat(case["image"]).st_mtime
    real = inspection.find_copies
    monkeypatch.setattr(inspection, "find_copies", lambda *a: (os.utime(case["image"], (9, 9)), real(*a)))
    _, content = checked(ratn, "akessfa")
    assert content["files"][os.path.relpath(case["image"], ratn)]["mtime"] == before
