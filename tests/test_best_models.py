"""The best k models: each a folder that evaluation and inference take, kept through an interruption, never mixed."""

import json
import shutil

import pytest
import torch
from torch import nn

from common.cli import model_file
from common.engine.best_models import BestModels


@pytest.fixture
def weights(tmp_path):
    """A best model with its tokenizer."""
    network = nn.Linear(1, 1)
    (tmp_path / "tokenizer.json").write_text("{}")
    torch.save(network.state_dict(), tmp_path / "model.pt")
    files = {name: tmp_path / name for name in ("tokenizer.json", "model.pt")}
    model_file.write(tmp_path / "model.pt", {"image_size": 64}, files=files)
    return tmp_path / "model.pt"


def offered(best, metrics, start=1):
    for epoch, metric in enumerate(metrics, start=start):
        network = nn.Linear(1, 1)
        nn.init.constant_(network.weight, epoch)
        best.offer(network, {"image_size": 64}, metric=metric, epoch=epoch)
        best.prune()


def there(weights):
    return sorted(path.name for path in (weights.parent / "best" / "model").glob("*"))


def test_the_best_stay_and_of_equal_ones_the_earlier(weights):
    offered(BestModels(weights, count=2), [0.1, 0.5, 0.3, 0.5, 0.3, float("nan")])
    assert there(weights) == ["epoch_0002", "epoch_0004"]
    for epoch in (2, 4):
        folder = weights.parent / "best" / "model" / f"epoch_{epoch:04d}"
        assert torch.load(folder / "model.pt", weights_only=True)["weight"] == epoch
        assert json.loads((folder / "model.json").read_text())["files"].keys() == {"tokenizer.json", "model.pt"}
        assert (folder / "tokenizer.json").read_text() == "{}"
        assert model_file.trained_with(folder / "model.pt") == {"image_size": 64}


def test_one_is_the_model_itself(weights):
    offered(BestModels(weights, count=1), [0.1, 0.5])
    assert not (weights.parent / "best").exists()


def test_it_goes_on_where_it_was(weights):
    first = BestModels(weights, count=2)
    offered(first, [0.4, 0.2])
    other = BestModels(weights, count=2)
    other.load_state_dict(json.loads(json.dumps(first.state_dict())))
    offered(other, [0.1, 0.3], start=3)
    assert there(weights) == ["epoch_0001", "epoch_0004"]
    assert [name.split("/")[2] for name in other.files()] == ["epoch_0001"] * 3 + ["epoch_0004"] * 3
    other.clear()
    assert not there(weights)


def test_a_kill_before_the_state_is_saved_loses_none_that_it_names(weights):
    first = BestModels(weights, count=2)
    offered(first, [0.5, 0.4])
    saved = first.state_dict()
    first.offer(nn.Linear(1, 1), {}, metric=0.6, epoch=3)  # and the process ends here
    other = BestModels(weights, count=2)
    other.load_state_dict(saved)
    offered(other, [0.3], start=3)
    assert there(weights) == ["epoch_0001", "epoch_0002"]


def test_one_that_was_removed_by_hand_is_told(weights, caplog):
    first = BestModels(weights, count=2)
    offered(first, [0.5, 0.4])
    shutil.rmtree(first.folder / "epoch_0001")
    first.load_state_dict(first.state_dict())
    assert first.kept == [(0.4, 2)] and "1 of 2 models are gone" in caplog.text
