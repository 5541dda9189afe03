"""The JSON files of docs/recipes.md, merged over a training: a backbone of transformers, a handler of MONAI's."""

import importlib.util
import json
import re

import pytest
from transformers import AutoBackbone, ConvNextConfig

from tests.test_bundle_contract import PLACES, TINY, checked, flags
from tests.test_documentation import ROOT
from tests.warm import monai_bundle

FILES = re.findall(r"```json\n(.*?)```", (ROOT / "docs" / "recipes.md").read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.training
def test_what_is_merged_last_trains(tmp_path):
    AutoBackbone.from_config(ConvNextConfig(depths=[1, 1, 1, 1], hidden_sizes=[8, 16, 24, 32])).save_pretrained(
        tmp_path / "convnext"
    )
    files = ["bundles/akessfa/configs/train.json"]
    has_tensorboard = importlib.util.find_spec("tensorboard") is not None
    assert len(FILES) == 2
    for number, text in enumerate(text for text in FILES if has_tensorboard or "TensorBoard" not in text):
        filled = text.replace("FOLDER_OR_HUB_NAME", str(tmp_path / "convnext")).replace("runs/", f"{tmp_path}/")
        (tmp_path / f"{number}.json").write_text(json.dumps(json.loads(filled)))
        files.append(str(tmp_path / f"{number}.json"))
    tiny = TINY["akessfa"]
    network = {name: value for name, value in tiny["network"].items() if "backbone" not in name}
    places = {name: tmp_path / place for name, place in PLACES.items()}
    options = {**tiny["train"], "epochs": 1}
    checked(monai_bundle("run", "--config_file", str(files), *flags(network, tiny["data"], options, places)), 0)
    assert (tmp_path / "models" / "model.pt").is_file()
    if has_tensorboard:
        assert any(file.stat().st_size > 100 for file in (tmp_path / "tensorboard").iterdir())
