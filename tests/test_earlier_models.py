"""A new training keeps the model that was there."""

import json
import os

import pytest

from common.cli.model_file import digest_of, keep_earlier
from tests.test_bundle_contract import TINY, checked, flags, train_files
from tests.warm import monai_bundle


def test_a_new_training_keeps_the_model_that_was_there(tmp_path):
    """Weights, state, tokenizer and distilled labels, in a folder beside it."""
    tiny, models = TINY["sgf"], tmp_path / "models"
    places = {"ckpt_dir": models, "output_dir": tmp_path / "eval", "synthetic_dir": tmp_path / "synthetic"}
    options = flags(tiny["network"], tiny["data"], {**tiny["train"], "epochs": 1}, places)
    arguments = ["run", "--config_file", train_files("sgf"), *options]
    assert "is kept in" not in checked(monai_bundle(*arguments), 0).stdout
    before = {path.relative_to(models): path.read_bytes() for path in models.rglob("*") if path.is_file()}
    done = checked(monai_bundle(*arguments, "--seed", "1"), 0)
    (earlier,) = (models / "earlier").iterdir()
    kept = {path.relative_to(earlier): path.read_bytes() for path in earlier.rglob("*") if path.is_file()}
    assert f"is kept in {earlier}" in done.stdout
    assert kept.items() <= before.items()
    assert {"model.pt", "model.json", "checkpoint.pt", "report_tokenizer.json"} <= {path.name for path in kept}
    assert (models / "model.pt").read_bytes() != (earlier / "model.pt").read_bytes()


@pytest.fixture
def models(tmp_path):
    """A model of two files and what was fitted to it, in a folder with files that are not its own."""
    folder = tmp_path / "models"
    folder.mkdir()
    for path in (tmp_path / "notes.txt", folder / "model.pt", folder / "vocabulary.txt", folder / "other.txt"):
        path.write_text(path.name)
    names = ("model.pt", "vocabulary.txt", "../notes.txt", str(tmp_path / "notes.txt"), "a\0b")
    (folder / "model.json").write_text(json.dumps({"settings": {}, "files": {name: [] for name in names}}))
    (folder / "calibration.json").write_text(json.dumps({"weights": digest_of(folder / "model.pt")}))
    (folder / "familiarity.safetensors").write_text("of other weights")
    return folder


def test_what_belongs_to_a_model_is_kept_and_nothing_else(models):
    before = sorted(path.name for path in models.iterdir())
    earlier = keep_earlier(models / "model.pt")
    assert {path.name for path in earlier.iterdir()} == {"model.pt", "model.json", "vocabulary.txt", "calibration.json"}
    assert sorted([*before, "earlier"]) == sorted(path.name for path in models.iterdir())
    (models / "part").write_text("new")
    os.replace(models / "part", models / "model.pt")
    assert (earlier / "model.pt").read_text() == "model.pt" and (models / "model.pt").read_text() == "new"


def test_a_linked_model_stays_where_it_is(models, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    for name in ("model.pt", "model.json", "vocabulary.txt"):
        (mine / name).symlink_to(models / name)
    earlier = keep_earlier(mine / "model.pt")
    assert earlier.is_relative_to(mine) and (earlier / "model.pt").read_text() == "model.pt"
    assert (models / "model.pt").is_file() and not (models / "earlier").exists()


def test_a_state_alone_and_a_damaged_description_are_kept(models):
    (models / "model.json").write_text("{broken")
    earlier = keep_earlier(models / "model.pt")
    assert (earlier / "model.json").read_text() == "{broken"
    (models / "model.pt").unlink()
    assert keep_earlier(models / "model.pt") is None
    (models / "checkpoint.pt").write_text("state")
    assert (keep_earlier(models / "model.pt", beside=["checkpoint.pt"]) / "checkpoint.pt").read_text() == "state"
