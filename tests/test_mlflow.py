"""``--tracking mlflow``, MONAI's own experiment tracking, in training, evaluation and inference of every bundle."""

import sqlite3

import pytest

from tests.test_bundle_contract import BUNDLES, PLACES, TINY, checked, flags, inference_flags, train_files
from tests.warm import ROOT, monai_bundle

pytest.importorskip("mlflow", reason="pip install -e '.[dev]'")  # and imported once, here, for all forks


def tracked(*arguments):
    return checked(monai_bundle("run", "--tracking", "mlflow", *arguments), 0)


def metrics_in(folder):
    """Names of the metrics that the runs recorded in ``folder`` have."""
    with sqlite3.connect(folder / "mlruns.db") as database:
        return {name for (name,) in database.execute("select distinct key from metrics")}


@pytest.mark.parametrize("id", ["output_dir", "experiment_name", "run_name", "save_execute_config"])
def test_texts_of_the_tracking_are_texts_too(id, tmp_path):
    value = "$__import__('os').system('touch PWNED') or 'x'"
    options = {"output_dir": tmp_path / "out", **TINY["hfcn"]["data"], "synthetic_dir": tmp_path / "data", id: value}
    monai_bundle("run", "--tracking", "mlflow", "--config_file", ROOT / "bundles/hfcn/configs/train.json",
                 *flags(TINY["hfcn"]["network"], TINY["hfcn"]["train"], options, ckpt_dir=tmp_path / "models"),
                 cwd=tmp_path)  # fmt: skip
    assert not list(tmp_path.rglob("PWNED"))


@pytest.mark.parametrize("bundle", BUNDLES)
def test_training_evaluation_and_inference_are_recorded(bundle, tmp_path):
    tiny = TINY[bundle]
    places = {name: tmp_path / place for name, place in PLACES.items()}
    common = flags(tiny["network"], tiny["data"], places)
    config = f"bundles/{bundle}/configs/train.json"
    tracked("--config_file", config, *common, *flags(tiny["train"], output_dir=tmp_path / "train"))
    assert {"train_loss"} < metrics_in(tmp_path / "train")  # and the metrics of validation
    tracked("--config_file", train_files(bundle, "evaluate"), *common)
    assert metrics_in(tmp_path / "eval")
    for name, options in tiny.get("also", {}).items():
        tracked("--config_file", f"bundles/{bundle}/configs/{name}.json", *flags(tiny["data"], options, places))
    out = tmp_path / "predictions"
    tracked("--config_file", f"bundles/{bundle}/configs/inference.json",
            *inference_flags(bundle, tmp_path, output_dir=out, **tiny["infer"]))  # fmt: skip
    assert (out / "predictions.json").is_file() and (out / "mlruns.db").is_file()
