"""A new training keeps the model that was there."""

import json

from common.cli.model_file import digest_of, set_aside
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


def test_nothing_outside_of_its_folder_is_moved(tmp_path):
    models, outside = tmp_path / "models", tmp_path / "notes.txt"
    models.mkdir()
    for path in (outside, models / "model.pt", models / "other.txt"):
        path.write_text("x")
    files = {name: [] for name in ("model.pt", "../notes.txt", str(outside))}
    (models / "model.json").write_text(json.dumps({"settings": {}, "files": files}))
    (models / "calibration.json").write_text(json.dumps({"weights": digest_of(models / "model.pt")}))
    (models / "familiarity.safetensors").write_text("of other weights")
    earlier = set_aside(models / "model.pt")
    assert {path.name for path in earlier.iterdir()} == {"model.pt", "model.json", "calibration.json"}
    assert outside.is_file()
    assert {path.name for path in models.iterdir()} == {"earlier", "other.txt", "familiarity.safetensors"}
    assert set_aside(models / "model.pt") is None
