"""Linear layers in oneDNN's own layout, for inference on CPUs: products of few rows take a half to a third of the time.

float32 products go to MKL otherwise, which is slow on CPUs that are not Intel's. Results differ by rounding.
"""

from __future__ import annotations

import torch
from ignite.engine import Engine, Events
from torch import nn


class PackedLinear(nn.Module):
    """A linear layer's product with its weight packed; without gradient, and not to be saved."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach().contiguous())
        self.bias = None if linear.bias is None else linear.bias.detach()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")


def can_pack(module: nn.Module) -> bool:
    """Whether ``module`` lies on a CPU in float32, and torch has oneDNN's operators."""
    first = next(module.parameters(), None)
    if first is None or first.device.type != "cpu" or first.dtype != torch.float32:
        return False
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_linear_pointwise")


def pack_linear_layers(module: nn.Module) -> None:
    """Pack all linear layers inside ``module``, in place, where :func:`can_pack`; it cannot be trained after it.

    A child with a method ``packed`` is replaced by what that gives.
    """
    for name, child in module.named_children():
        if isinstance(child, nn.Linear) and can_pack(child):
            setattr(module, name, PackedLinear(child))
        elif hasattr(child, "packed") and can_pack(child):
            setattr(module, name, child.packed())  # type: ignore[operator]
        else:
            pack_linear_layers(child)


class PackLinearLayers:
    """Handler: :func:`pack_linear_layers` as the engine starts; attach it after the handler that loads the weights.

    Args:
        module: the part of the network that generates.
        amp: the network will run in bfloat16, which goes to oneDNN by itself.
    """

    def __init__(self, *, module: nn.Module, amp: bool) -> None:
        self.module, self.amp = module, amp

    def attach(self, engine: Engine) -> None:
        if not self.amp:
            engine.add_event_handler(Events.STARTED, lambda _: pack_linear_layers(self.module))
