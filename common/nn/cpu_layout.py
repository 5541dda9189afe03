"""Weights laid out for CPUs: the same numbers up to rounding, in a fraction of the time.

float32 products go to MKL, which is slow on CPUs that are not Intel's; for few rows and large weights oneDNN's packed
layout takes down to a third of the time; for small ones its call alone costs three times the product. Its operators are
torch's private interface, named here alone; without them nothing is packed.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from ignite.engine import Engine, Events
from torch import nn

LARGE = 2**18  # entries of a weight; one that has more is packed
OPERATORS = ("_reorder_linear_weight", "_linear_pointwise")  # of torch.ops.mkldnn


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
    return torch.backends.mkldnn.is_available() and all(hasattr(torch.ops.mkldnn, name) for name in OPERATORS)


def pack_linear_layers(module: nn.Module, *, larger_than: int = LARGE) -> None:
    """Pack the linear layers inside ``module``, in place, where :func:`can_pack`; it cannot be trained after it.

    Args:
        larger_than: entries of a weight; one with as many, or fewer, stays as it is.
    """
    for name, child in module.named_children():
        if isinstance(child, nn.Linear) and child.weight.numel() > larger_than and can_pack(child):
            setattr(module, name, PackedLinear(child))
        else:
            pack_linear_layers(child, larger_than=larger_than)


def by_columns(module: nn.Module) -> None:
    """Lay the weights of linear layers out by columns: a product with one or two rows then reads them in order.

    Values and shapes stay. On a CPU such a product is bound by this reading: 24 against 15 GB/s with one row.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            layer.weight.data = layer.weight.data.t().contiguous().t()


class CPULayout:
    """Handler: lay out the weights as the engine starts; attach it after the handler that loads them.

    The parts cannot be trained after it.

    Args:
        linear: the part whose large linear layers are packed, on CPUs in float32.
        convolutions: parts that get channels last: a 3x3 convolution of 32 channels takes a third of the time on CPUs.
            Group norm is less exact so, up to 1e-3 of the logits.
        amp: the network will run in a half float, which goes to oneDNN by itself.
        larger_than: of :func:`pack_linear_layers`.
    """

    def __init__(
        self, *, linear: nn.Module, amp: bool | str, convolutions: Iterable[nn.Module] = (), larger_than: int = LARGE
    ) -> None:
        self.linear, self.amp, self.convolutions = linear, amp, list(convolutions)
        self.larger_than = larger_than

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, lambda _: self.apply())

    def apply(self) -> None:
        """Lay them out now."""
        for part in self.convolutions:
            part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if not self.amp:
            pack_linear_layers(self.linear, larger_than=self.larger_than)
