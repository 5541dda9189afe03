"""Switches, numbers and choices of the command line: of the kind that the config holds, or refused in one line."""

import json

import pytest
from monai.bundle import ConfigParser

from common.cli.typed_values import typed_values
from tests.warm import ROOT, monai_bundle

CONFIGS = [
    path for path in sorted(ROOT.glob("bundles/*/configs/*.json")) if "imports" in json.loads(path.read_text("utf-8"))
]
BAD = {
    bool: ["maybe", "2", "", "None", "$False", "@resume"],
    int: ["1.5", "3.0", "many", "", "1e3", "nan", "-inf", "$2", "@epochs", "[1]", "None", "1,000"],
    float: ["fast", "", "nan", "inf", "-inf", "$0.1", "[0.1]", "None", "0,1"],
}


def plain(config, kind):
    """Ids at the top of a config whose value is of ``kind``."""
    return [id for id, value in config.items() if type(value) is kind]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parents[1].name}-{path.stem}")
def test_no_value_of_another_kind_passes(path):
    content = json.loads(path.read_text(encoding="utf-8"))
    config = ConfigParser(content)
    for kind, values in BAD.items():
        for id in plain(content, kind):
            for value in values:
                with pytest.raises(SystemExit, match=f"--{id}: "):
                    typed_values({id: value}, config)


def test_switches_are_switches():
    config = ConfigParser({"overwrite": False, "amp": {"_target_": "builtins.bool"}})
    for text in ("true", "True", "TRUE", "1"):
        assert typed_values({"overwrite": text, "amp": text}, config) == {"overwrite": True, "amp": True}
    for text in ("false", "False", "0"):
        assert typed_values({"overwrite": text, "amp": text}, config) == {"overwrite": False, "amp": False}


def test_numbers_follow_references_arguments_and_lists():
    content = {
        "epochs": 3, "train": {"trainer": {"max_epochs": "@epochs"}}, "levels": [0, 1],
        "part": {"_target_": "common.nn.fusion.FiLM", "condition_dim": 4, "channels": 4},
        "optimizer": {"_target_": "torch.optim.Adam", "lr": "$1e-3"},
    }  # fmt: skip
    config = ConfigParser(content)
    given = {"train::trainer::max_epochs": "7", "levels": "[2, 3]", "optimizer#eps": "1e-6"}
    assert typed_values(given, config) == {"train::trainer::max_epochs": 7, "levels": [2, 3], "optimizer#eps": 1e-6}
    for bad in ({"train::trainer::max_epochs": "0"}, {"levels": "2"}, {"levels": "[a]"}, {"optimizer#eps": "small"}):
        with pytest.raises(SystemExit):
            typed_values(bad, config)


RANGES = [
    ("epochs", "0"), ("batch_size", "-4"), ("image_size", "0"), ("image_size", "100000"), ("num_workers", "-1"),
    ("learning_rate", "-0.1"), ("seed", "-1"), ("device", "gpu"), ("device", "cuda:99"), ("val_interval", "0"),
    ("val_interval", "10000"),
]  # fmt: skip


@pytest.mark.parametrize(("id", "value"), RANGES)
def test_values_out_of_range_are_refused_before_anything_is_built(id, value, tmp_path):
    config = "bundles/akessfa/configs/train.json"
    places = [f"--{name}={tmp_path / name}" for name in ("ckpt_dir", "synthetic_dir")]
    done = monai_bundle("run", "--config_file", config, f"--{id}={value}", *places)
    lines = done.stderr.strip().splitlines()
    assert done.returncode == 1 and lines[-1].startswith(f"--{id}: ") and "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_false_is_false(tmp_path):
    file = tmp_path / "kept.json"
    file.write_text("{}", encoding="utf-8")
    config = "bundles/d2rnet/configs/pseudo_label.json"
    done = monai_bundle(
        "run", "--config_file", config, "--overwrite", "false", "--output", file, "--dataset_dir", tmp_path
    )
    assert done.returncode == 1 and file.read_text(encoding="utf-8") == "{}"
