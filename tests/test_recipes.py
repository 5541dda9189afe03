"""The JSON file of docs/recipes.md, merged over a training: a backbone of transformers."""

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
    (text,) = FILES
    (tmp_path / "mine.json").write_text(text.replace("FOLDER_OR_HUB_NAME", str(tmp_path / "convnext")))
    files = ["bundles/akessfa/configs/train.json", str(tmp_path / "mine.json")]
    tiny = TINY["akessfa"]
    network = {name: value for name, value in tiny["network"].items() if "backbone" not in name}
    places = {name: tmp_path / place for name, place in PLACES.items()}
    options = {**tiny["train"], "epochs": 1}
    checked(monai_bundle("run", "--config_file", str(files), *flags(network, tiny["data"], options, places)), 0)
    assert (tmp_path / "models" / "model.pt").is_file()
