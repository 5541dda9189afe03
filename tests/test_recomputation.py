"""Gradient checkpointing and compilation change what a step costs, and nothing of what it learns."""

import copy
import json
from pathlib import Path

import pytest
import torch
from torch import nn
from transformers import Dinov2Config, Dinov2Model

from common.engine.learner import learner
from common.nn.backbones import ResNetFeatures
from common.nn.efficientnet import EfficientNetLite0
from common.nn.recomputation import recompute
from common.nn.report_decoder import ReportDecoder

CONFIGS = sorted((Path(__file__).resolve().parents[1] / "bundles").glob("*/configs/train*.json"))

LEARNER = "common.engine.learner.learner"


class Encoder(nn.Module):
    def __init__(self, backbone):
        super().__init__()
        self.backbone, self.inputs = backbone, (torch.rand(2, 3, 64, 64),)

    def forward(self, image):
        return sum(features.square().mean() for features in self.backbone(image))


class Decoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.decoder = ReportDecoder(vocab_size=50, dim=16, hidden=32, heads=2, layers=2, dropout=0.3)
        self.inputs = (torch.randint(4, 50, (2, 9)), torch.randn(2, 5, 16))

    def forward(self, ids, memory):
        return self.decoder(ids, memory).square().mean()


MAKERS = {
    "resnet": lambda: Encoder(ResNetFeatures(depth=18, in_channels=3, width=8)),
    "bottleneck": lambda: Encoder(ResNetFeatures(depth=50, in_channels=3, width=4)),
    "lite0": lambda: Encoder(EfficientNetLite0(in_channels=3, width_factor=0.25)),
    "decoder": Decoder,
}


def stepped(network):
    """What a backward pass leaves in ``network``, and the bytes that the forward pass kept for it."""
    kept = {}

    def pack(value):
        kept[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        return value

    torch.manual_seed(1)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda value: value):
        loss = network(*network.inputs)
    loss.backward()
    return [loss, *(p.grad for p in network.parameters()), *network.buffers()], sum(kept.values())


@pytest.mark.parametrize("name", MAKERS)
def test_a_step_is_the_same_and_keeps_less(name):
    plain = MAKERS[name]().train()
    other = recompute(copy.deepcopy(plain))
    (expected, much), (values, little) = stepped(plain), stepped(other)
    assert all(map(torch.equal, values, expected)) and little < 0.75 * much
    assert list(other.state_dict()) == list(plain.state_dict())
    again = copy.deepcopy(recompute(other))  # as a moving average copies it: with blocks of its own
    with torch.no_grad():
        for parameter in again.parameters():
            parameter.zero_()
    other.eval(), plain.eval(), again.eval()
    assert torch.equal(other(*other.inputs), plain(*plain.inputs))
    assert not torch.equal(again(*again.inputs), plain(*plain.inputs))


def test_models_of_transformers_do_it_themselves():
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": 28, "patch_size": 14}
    model = Dinov2Model(Dinov2Config(**sizes))
    recompute(nn.Sequential(model))
    assert model.is_gradient_checkpointing


def test_what_cannot_be_done_is_one_line(monkeypatch):
    with pytest.raises(ValueError, match="gradient_checkpointing: Linear has no block"):
        learner(nn.Linear(2, 2), checkpointing=True)
    with pytest.raises(ValueError, match="not beside --compile"):
        learner(MAKERS["resnet"](), checkpointing=True, compiled=True)
    monkeypatch.setenv("PATH", "")
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(ValueError, match=r"torch\.compile needs a C\+\+ compiler"):
        learner(nn.Linear(2, 2), compiled=True)


def test_compiled_it_learns_the_same(monkeypatch):
    compiler = torch.compile
    monkeypatch.setattr(torch, "compile", lambda module: compiler(module, backend="aot_eager"))
    plain = Encoder(ResNetFeatures(depth=18, in_channels=3, width=4)).train()
    other = copy.deepcopy(plain)
    compiled = learner(other, compiled=True)
    compiled(*plain.inputs).backward()
    plain(*plain.inputs).backward()
    for mine, theirs in zip(other.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(mine.grad, theirs.grad)
    assert list(other.state_dict()) == list(plain.state_dict())  # what is saved has the names that it always had


def test_every_training_has_both_switches():
    assert len(CONFIGS) == 6
    for file in CONFIGS:
        content = json.loads(file.read_text())
        learners = [item for item in content.values() if isinstance(item, dict) and item.get("_target_") == LEARNER]
        switches = [(item["compiled"], item["checkpointing"]) for item in learners]
        assert switches == [("@compile", "@gradient_checkpointing")], file
        assert content["compile"] is False and content["gradient_checkpointing"] is False, file
