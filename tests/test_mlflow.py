"""``--tracking mlflow``, MONAI's own experiment tracking, in training, evaluation and inference of every bundle."""

import shutil
import sqlite3

import pytest

from tests.test_bundle_contract import BUNDLES, PLACES, TINY, checked, flags, inference_flags, train_files
from tests.warm import ROOT, monai_bundle

mlflow = pytest.importorskip("mlflow", reason="pip install -e '.[dev]'")  # and imported once, here, for all forks
MAKES_ITS_OWN = "sgf"  # the bundle that no database is laid before


@pytest.fixture(scope="module")
def database(tmp_path_factory):
    """A database with MLflow's tables, which it takes two seconds to make."""
    path = tmp_path_factory.mktemp("mlflow") / "mlruns.db"
    mlflow.MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def lay_database(database, request):
    """Lay the database into a folder."""

    def lay(folder):
        if MAKES_ITS_OWN not in request.node.name and not (folder / database.name).exists():
            folder.mkdir(parents=True, exist_ok=True)
            shutil.copy(database, folder)
        return folder

    return lay


def tracked(*arguments, cwd=ROOT):
    return monai_bundle("run", "--tracking", "mlflow", *arguments, cwd=cwd)


def metrics_in(folder):
    """Names of the metrics that the runs recorded in ``folder`` have."""
    with sqlite3.connect(folder / "mlruns.db") as database:
        return {name for (name,) in database.execute("select distinct key from metrics")}


@pytest.mark.parametrize("id", ["output_dir", "experiment_name", "run_name", "save_execute_config"])
def test_texts_of_the_tracking_are_texts_too(id, tmp_path, lay_database):
    value = "$__import__('os').system('touch PWNED') or 'x'"
    options = {"output_dir": lay_database(tmp_path / "out"), **TINY["hfcn"]["data"], "synthetic_dir": tmp_path / "data",
               "epochs": 1, id: value}  # fmt: skip
    tracked("--config_file", ROOT / "bundles/hfcn/configs/train.json",
            *flags(TINY["hfcn"]["network"], {**TINY["hfcn"]["train"], **options}, ckpt_dir=tmp_path / "models"),
            cwd=tmp_path)  # fmt: skip
    assert not list(tmp_path.rglob("PWNED"))


@pytest.mark.parametrize("bundle", BUNDLES)
def test_training_evaluation_and_inference_are_recorded(bundle, tmp_path, lay_database):
    tiny = TINY[bundle]
    train, evaluation, predictions = (lay_database(tmp_path / name) for name in ("train", "eval", "predictions"))
    places = {name: tmp_path / place for name, place in PLACES.items()}
    common = flags(tiny["network"], tiny["data"], places)
    config = f"bundles/{bundle}/configs/train.json"
    checked(tracked("--config_file", config, *common, *flags(tiny["train"], output_dir=train)), 0)
    assert {"train_loss"} < metrics_in(train)  # and the metrics of validation
    checked(tracked("--config_file", train_files(bundle, "evaluate"), *common), 0)
    assert metrics_in(evaluation)
    for name, options in tiny.get("also", {}).items():
        own = flags(tiny["data"], options, places)
        checked(tracked("--config_file", f"bundles/{bundle}/configs/{name}.json", *own), 0)
    own = inference_flags(bundle, tmp_path, output_dir=predictions, **tiny["infer"])
    checked(tracked("--config_file", f"bundles/{bundle}/configs/inference.json", *own), 0)
    assert (predictions / "predictions.json").is_file() and (predictions / "mlruns.db").is_file()


def test_tensorboard_shows_losses_and_validation(tmp_path):
    """The same for TensorBoard, by a file of settings."""
    accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator", reason="pip install -e '.[dev]'"
    )
    config = "bundles/hfcn/configs/train.json"
    own = flags(TINY["hfcn"]["network"], {**TINY["hfcn"]["train"], **TINY["hfcn"]["data"], "epochs": 2},
                synthetic_dir=tmp_path / "data", ckpt_dir=tmp_path / "models", output_dir=tmp_path / "out")  # fmt: skip
    tracking = "common/engine/tensorboard.json"
    checked(monai_bundle("run", "--tracking", tracking, "--config_file", config, *own), 0)
    events = accumulator.EventAccumulator(str(tmp_path / "out" / "tensorboard")).Reload()
    assert [event.step for event in events.Scalars("roc_auc")] == [1, 2]
    assert len(events.Scalars("train_loss")) >= 2
