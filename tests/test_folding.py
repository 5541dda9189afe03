"""Batch norms folded into convolutions: the same numbers."""

import copy

import pytest
import torch
from torch import nn

from common.nn.backbones import ResNetFeatures
from common.nn.efficientnet import EfficientNetLite0
from common.nn.folding import fold_batch_norms


def with_statistics(network):
    torch.manual_seed(0)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
            nn.init.normal_(module.weight, 1.0, 0.3)
            nn.init.normal_(module.bias)
    return network.eval()


@pytest.mark.parametrize("make", [
    lambda: EfficientNetLite0(in_channels=1, width_factor=0.25), lambda: ResNetFeatures(depth=18, width=8),
    lambda: ResNetFeatures(depth=50, width=8),
])  # fmt: skip
def test_encoders_answer_as_before_without_a_norm(make):
    network = with_statistics(make())
    folded = copy.deepcopy(network)
    fold_batch_norms(folded)
    norms = [sum(isinstance(m, nn.BatchNorm2d) for m in x.modules()) for x in (network, folded)]
    assert norms[0] >= 20 and norms[1] <= 4  # those of a ResNet's shortcuts at most
    image = torch.rand(2, 1, 64, 64)
    with torch.no_grad():
        for one, other in zip(network(image), folded(image), strict=True):
            torch.testing.assert_close(other, one, atol=1e-4 * float(one.abs().max()), rtol=1e-4)


def test_only_neighbours_are_folded():
    class Apart(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.norm = nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2)

    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.BatchNorm2d(2), Apart())
    fold_batch_norms(with_statistics(network))
    assert sum(isinstance(module, nn.BatchNorm2d) for module in network.modules()) == 2
