"""Every bundle on a GPU that is not there: the real pre- and post-processing, handlers and writers of every config."""

import json
from pathlib import Path

import pytest

from tests.fake_gpu import pretend
from tests.test_bundle_contract import BUNDLES, PLACES, ROOT, TINY, checked, flags, inference_flags, train_files
from tests.warm import monai_bundle

QUIET = {"num_workers": 0}


def on_gpu(*arguments, cwd=ROOT):
    return checked(monai_bundle("run", *arguments, cwd=cwd, before=pretend), 0)


@pytest.fixture(scope="module", params=BUNDLES)
def trained(request, tmp_path_factory):
    """A bundle whose tiny training ran on the GPU, all its networks included: its name, folder and overrides."""
    bundle = request.param
    folder, tiny = tmp_path_factory.mktemp(bundle), TINY[bundle]
    places = {name: folder / place for name, place in PLACES.items()}
    common = flags(tiny["network"], tiny["data"], places)
    on_gpu("--config_file", f"bundles/{bundle}/configs/train.json", *common, *flags(tiny["train"]))
    for name, options in tiny.get("also", {}).items():
        on_gpu("--config_file", f"bundles/{bundle}/configs/{name}.json", *flags(tiny["data"], options, places))
    return bundle, folder, common


def test_training_ran_and_what_it_wrote_is_on_the_cpu(trained):
    import torch

    _, folder, _ = trained
    states = torch.load(folder / "models" / "model.pt", weights_only=True)
    assert all(value.device.type == "cpu" for value in states.values())


def test_evaluation(trained):
    bundle, folder, common = trained
    on_gpu("--config_file", train_files(bundle, "evaluate"), *common)
    assert json.loads((folder / "eval" / "metrics.json").read_text())
    assert len((folder / "eval" / "per_case.csv").read_text().splitlines()) > 1


def test_inference_of_a_picture_and_of_the_test_split(trained, tmp_path):
    bundle, folder, _ = trained
    config = f"bundles/{bundle}/configs/inference.json"
    on_gpu("--config_file", config, *inference_flags(bundle, folder, output_dir=tmp_path, **TINY[bundle]["infer"]))
    assert all((tmp_path / name).stat().st_size for name in TINY[bundle]["results"])
    tiny = TINY[bundle]
    places = {"ckpt_dir": folder / "models", "output_dir": tmp_path / "split", "synthetic_dir": folder / "synthetic"}
    on_gpu("--config_file", config, *flags(tiny["network"], tiny["data"], places, batch_size=2))
    assert len(json.loads((tmp_path / "split" / "predictions.json").read_text())) > 1


@pytest.mark.parametrize("config", ["pseudo_label", "evaluate_detector"])
def test_the_detector(trained, tmp_path, config):
    bundle, folder, _ = trained
    if bundle != "d2rnet":
        pytest.skip("it has no detector")
    options = flags(TINY[bundle]["data"], ckpt_dir=folder / "models", synthetic_dir=folder / "synthetic")
    if config == "pseudo_label":
        written = tmp_path / "annotation.json"
        on_gpu("--config_file", f"bundles/{bundle}/configs/{config}.json", *options,
               *flags(output_dir=tmp_path, output=written, overwrite=True))  # fmt: skip
        assert written.is_file()
        return
    names = str([f"bundles/{bundle}/configs/{name}.json" for name in ("train_detector", config)])
    own = TINY[bundle]["also"]["train_detector"]
    on_gpu("--config_file", names, *options, *flags(own, output_dir=tmp_path))
    assert json.loads((tmp_path / "metrics.json").read_text())


def test_cached_features(trained, tmp_path):
    bundle, _, common = trained
    if bundle != "clip_tnseg":
        pytest.skip("it caches none")
    places = flags(ckpt_dir=tmp_path, features_dir=tmp_path / "features")
    on_gpu(
        "--config_file",
        train_files(bundle, "cache_features"),
        *common,
        *flags(TINY[bundle]["train"], epochs=1),
        *places,
    )
    assert list(Path(tmp_path / "features").glob("*.safetensors"))
