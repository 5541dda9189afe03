"""A manifest of a check is trusted where it is fresh, and where it is not, that is said and files are looked at."""

import json
import os
import shutil

import pytest
from PIL import Image

from common.cli.check import main
from common.datasets.layouts import read_dataset
from common.datasets.studies import read_studies
from common.images import files
from common.synthetic.studies import StudyOptions, write_studies

LOOKS = ("check_image", "require_image")


@pytest.fixture
def ratn(synthetic, tmp_path):
    return shutil.copytree(synthetic, tmp_path / "set")


def checked(folder, bundle):
    code = main([str(folder), "--bundle", bundle, "--manifest", str(folder / "manifest.json")])
    return code, json.loads((folder / "manifest.json").read_text())


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
    assert "sound when they were checked on" in caplog.text


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
    assert code == 1 and len(content["damaged"]) == 2
    with pytest.raises(
        ValueError, match=r"manifest\.json: 2 of \d+ files cannot be used, such as .* --skip_damaged true"
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
        content = json.loads((ratn / "manifest.json").read_text())
        content["files"].popitem()
        del content["files"][os.path.relpath(case["image"], ratn)]
        (ratn / "manifest.json").write_text(json.dumps(content))
    looked.clear()
    if change == "gone":
        with pytest.raises(FileNotFoundError, match="no file"):
            read_dataset(str(ratn), "train")
    else:
        read_dataset(str(ratn), "train")
    assert looked and "not trusted" in caplog.text


def test_a_file_of_that_name_that_is_none_is_one_line(ratn):
    (ratn / "manifest.json").write_text('{"name": "my app"}')
    with pytest.raises(
        ValueError, match=r"manifest: .*manifest\.json' is none that python -m common\.cli\.check writes"
    ):
        read_dataset(str(ratn), "train")
