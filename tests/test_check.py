"""``python -m common.cli.check``: what a data set holds and what must be mended, before a training meets it."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from common.cli.check import main
from common.synthetic.chest import ChestOptions, write_chests
from common.synthetic.studies import StudyOptions, write_studies
from common.synthetic.thyroid import ThyroidOptions, write_synthetic
from tests.test_bad_inputs import rows, table


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """A small drawn set for each bundle."""
    folder = tmp_path_factory.mktemp("sets")
    write_synthetic(str(folder / "thyroid"), ThyroidOptions(reports=16, size=64))
    write_studies(str(folder / "sgf"), StudyOptions(studies=20, size=64))
    write_chests(str(folder / "d2rnet"), ChestOptions(studies=20, size=64))
    return {name: folder / ("thyroid" if name not in ("sgf", "d2rnet") else name)
            for name in ("akessfa", "clip_tnseg", "hfcn", "sgf", "d2rnet")}  # fmt: skip


def told(caplog, *arguments):
    """Exit code, and what was said."""
    caplog.clear()
    with caplog.at_level("INFO"):
        code = main([str(argument) for argument in arguments])
    return code, "\n".join(record.message for record in caplog.records)


@pytest.mark.parametrize("bundle", ["akessfa", "clip_tnseg", "hfcn", "sgf", "d2rnet"])
def test_a_sound_set_can_be_trained_on(sets, bundle, caplog):
    code, text = told(caplog, sets[bundle], "--bundle", bundle)
    assert code == 0 and f"{bundle} can train on it." in text
    counts = {
        line.split()[0]: int(line.split()[1]) for line in text.splitlines() if line.startswith(("train ", "test "))
    }
    assert counts["train"] > counts["test"] > 0


def test_what_a_training_should_know_is_said(tmp_path, caplog):
    """Few cases, and no report."""
    rows = ["image,mask,report,patient_id,split"]
    for number, split in enumerate(["train"] * 5 + ["validation", "test"]):
        pixels = np.random.default_rng(number).integers(0, 255, (64, 64), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
        Image.fromarray(np.uint8(255) * np.tri(64, dtype=np.uint8)).save(tmp_path / f"{number}_mask.png")
        rows.append(f"{number}.png,{number}_mask.png,,P{number},{split}")
    (tmp_path / "cases.csv").write_text("\n".join(rows))
    code, text = told(caplog, tmp_path, "--bundle", "akessfa")
    assert code == 0 and "no training case has a report: akessfa learns from the image alone" in text
    assert "5 training cases: fewer than a batch; pass --batch_size 5 or less" in text


def test_every_fault_is_named_at_once(sets, tmp_path, caplog):
    root = shutil.copytree(sets["akessfa"], tmp_path / "set")
    splits = json.loads((root / "splits.json").read_text())
    names = {split: sorted(f"{p}_0.png" for p in splits[split]) for split in splits}
    first, second, third, fourth = names["train"][:4]
    (root / "images" / first).unlink()
    whole = (root / "images" / second).read_bytes()
    (root / "images" / second).write_bytes(whole[: len(whole) // 2])
    Image.new("L", (9, 9)).save(root / "masks" / third)
    Image.new("L", (64, 64)).save(root / "masks" / fourth)
    shutil.copy(root / "images" / third, root / "images" / names["test"][0])
    code, text = told(caplog, root, "--bundle", "akessfa")
    assert code == 1
    for line in ("missing (1)", "damaged (1)", "mask of another size (1)", "image in several splits (1)",
                 "empty mask (2, a note)"):  # fmt: skip
        assert line in text, (line, text)
    assert all(name in text for name in (first, second, third, fourth, names["test"][0]))
    assert "To be mended before akessfa trains on it: missing, damaged, mask of another size, image in several" in text


def test_masks_that_are_hardly_nodules_are_noted(sets, tmp_path, caplog):
    root = shutil.copytree(sets["akessfa"], tmp_path / "set")
    first, second, *_ = sorted((root / "masks").iterdir())
    Image.new("L", Image.open(first).size, 255).save(first)
    shutil.copy(root / "images" / second.name, second)
    _, text = told(caplog, root, "--bundle", "akessfa")
    assert "mask covers most of its image (1, a note)" in text and "mask is its image (1, a note)" in text
    assert first.name in text and second.name in text


def test_one_mask_of_several_images_is_noted(tmp_path, caplog):
    lines = ["image,mask,report,patient_id,split"]
    for number in range(3):
        Image.fromarray(np.full((64, 64), 20 * number, np.uint8)).save(tmp_path / f"{number}.png")
        lines.append(f"{number}.png,mask.png,x,P{number},train")
    Image.fromarray(np.uint8(255) * np.tri(64, dtype=np.uint8)).save(tmp_path / "mask.png")
    (tmp_path / "cases.csv").write_text("\n".join(lines))
    assert "mask of several images (1, a note)" in told(caplog, tmp_path, "--bundle", "akessfa")[1]


def test_patients_on_both_sides_of_a_split_are_named(tmp_path, caplog):
    entries = [(*row[:2], f"R{n // 2}", *row[3:]) for n, row in enumerate(rows(splits=("train", "validation", "test")))]
    root = table(tmp_path / "set", entries)
    for number in range(12):
        Image.fromarray(np.full((64, 64), 10 * number, np.uint8)).save(root / "images" / f"{number}.png")
    code, text = told(caplog, root, "--bundle", "akessfa")
    assert code in (1, 2) and "R0" in text


def test_a_study_of_missing_and_equal_images(sets, tmp_path, caplog):
    root = shutil.copytree(sets["sgf"], tmp_path / "set")
    images = sorted(path for path in root.rglob("*.png"))
    shutil.copy(images[0], images[1])
    images[-1].unlink()
    code, text = told(caplog, root, "--bundle", "sgf", "--examples", 1)
    assert code == 1 and "missing (1)" in text and images[-1].name in text and "same image twice (1, a note)" in text


def test_what_is_no_data_set_is_one_line(tmp_path, caplog):
    for bundle in ("akessfa", "sgf"):
        assert told(caplog, tmp_path / "nowhere", "--bundle", bundle)[0] == 2
        code, text = told(caplog, tmp_path, "--bundle", bundle)
        assert code == 2 and len(text.splitlines()) == 1 and str(tmp_path) in text


def test_the_manifest_holds_every_file(sets, tmp_path, caplog):
    file = tmp_path / "manifest.json"
    told(caplog, sets["akessfa"], "--bundle", "akessfa", "--manifest", file)
    files = json.loads(file.read_text())["files"]
    assert len(files) == len(list(sets["akessfa"].rglob("*.png")))
    assert all(entry["size"] == [64, 64] and len(entry["sha256"]) == 64 for entry in files.values())
