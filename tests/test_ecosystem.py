"""MONAI's own tools around a bundle: loading of a packed zip, federated learning."""

import zipfile
from pathlib import Path

import pytest
import torch
from monai.bundle import ConfigWorkflow
from monai.fl.client import MonaiAlgo, MonaiAlgoStats
from monai.fl.utils.constants import ExtraItems, FlStatistics, WeightType
from monai.fl.utils.exchange_object import ExchangeObject

from common.pack import pack
from tests.test_bundle_contract import BUNDLES, PLACES, ROOT, TINY, checked
from tests.warm import Running, alone

LOAD = """
import sys
import monai.bundle
network = monai.bundle.load(name=sys.argv[1], bundle_dir="zoo", workflow_type="inference")
count = sum(p.numel() for p in network.parameters())
print("LOADED", type(network).__name__, sys.modules[sys.argv[1]].__file__, count)
"""


def workflow_of(bundle, folder, **changes):
    tiny = TINY[bundle]
    places = {name: str(folder / place) for name, place in PLACES.items()}
    options = {**tiny["network"], **tiny["data"], **tiny["train"], **places, **changes}
    files = [str(ROOT / "bundles" / bundle / "configs" / f"{name}.json") for name in ("train", "evaluate")]
    return [ConfigWorkflow(config_file=files[:count], workflow_type="train", logging_file=False, **options)
            for count in (1, 2)]  # fmt: skip


@pytest.mark.parametrize("bundle", BUNDLES)
def test_federated_rounds_go_on_beyond_the_schedule(bundle, tmp_path):
    train, evaluate = workflow_of(bundle, tmp_path, epochs=1)
    algo = MonaiAlgo(bundle_root=str(ROOT / "bundles" / bundle), local_epochs=1, train_workflow=train,
                     eval_workflow=evaluate, send_weight_diff=False)  # fmt: skip
    algo.initialize(extra={ExtraItems.CLIENT_NAME: "site", ExtraItems.APP_ROOT: str(tmp_path)})
    weights = {key: torch.as_tensor(value).clone() for key, value in algo.get_weights().weights.items()}
    for _ in range(3):
        algo.train(data=ExchangeObject(weights=weights), extra={})
        update = algo.get_weights()
        weights = {key: torch.as_tensor(value).clone() for key, value in update.weights.items()}
        assert update.weight_type in (WeightType.WEIGHTS, WeightType.WEIGHT_DIFF)
    assert all(torch.isfinite(value.float()).all() for value in weights.values())
    algo.finalize()


@pytest.mark.parametrize("bundle", ["akessfa", "clip_tnseg", "hfcn"])
def test_statistics_of_a_sites_images(bundle, tmp_path):
    (workflow_of(bundle, tmp_path)[0]).initialize()
    data = str(tmp_path / "synthetic")
    from common.synthetic.thyroid import ThyroidOptions, write_synthetic

    write_synthetic(
        data, ThyroidOptions(**{key.partition("#")[2]: value for key, value in TINY[bundle]["data"].items()})
    )
    workflow = workflow_of(bundle, tmp_path, dataset_dir=data)[0]
    stats = MonaiAlgoStats(bundle_root=str(ROOT / "bundles" / bundle), workflow=workflow)
    stats.initialize(extra={ExtraItems.CLIENT_NAME: "site", ExtraItems.APP_ROOT: str(tmp_path)})
    told = stats.get_data_stats(extra={FlStatistics.HIST_BINS: [10], FlStatistics.HIST_RANGE: [[0, 255]]})
    assert told.statistics["train"][FlStatistics.DATA_COUNT] > 0
    assert told.statistics["train"][FlStatistics.FAIL_COUNT] == 0


@pytest.mark.parametrize("bundle", BUNDLES)
def test_a_packed_zip_is_loaded_by_monai(bundle, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    with zipfile.ZipFile(pack(ROOT / "bundles" / bundle, tmp_path)) as file:
        file.extractall(tmp_path / "zoo")
    from monai.bundle import ConfigParser

    config = tmp_path / "zoo" / bundle / "configs" / "inference.json"
    parser = ConfigParser(ConfigParser.load_config_file(config))
    for name, value in TINY[bundle]["network"].items():
        parser[name] = value
    ConfigParser.export_config_file(parser.config, str(config), indent=1)
    network = parser.get_parsed_content("network_def")
    (tmp_path / "zoo" / bundle / "models").mkdir(exist_ok=True)
    torch.save(network.state_dict(), tmp_path / "zoo" / bundle / "models" / "model.pt")
    (tmp_path / "load_zip.py").write_text(LOAD)
    done = checked(Running([bundle], module="load_zip", cwd=tmp_path, before=alone).wait(), 0)
    _, name, file, count = done.stdout.splitlines()[-1].split()
    assert name == type(network).__name__ and int(count) == sum(p.numel() for p in network.parameters())
    assert Path(file).is_relative_to(tmp_path)
