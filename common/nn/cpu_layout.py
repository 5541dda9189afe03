"""Weights laid out for CPUs: the same numbers up to rounding, in a fraction of the time.

float32 products go to MKL, which is slow on CPUs that are not Intel's; for few rows oneDNN's packed layout takes a half
to a third of the time. Its operators are torch's private interface, named here alone; without them nothing is packed.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from ignite.engine import Engine, Events
from torch import nn

from common.nn.relational_memory import NormModulation

OPERATORS = ("_reorder_linear_weight", "_linear_pointwise")  # of torch.ops.mkldnn


class PackedLinear(nn.Module):
    """A linear layer's product with its weight packed; without gradient, and not to be saved."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach().contiguous())
        self.bias = None if linear.bias is None else linear.bias.detach()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")


class PackedModulation(nn.Module):
    """:class:`common.nn.relational_memory.NormModulation` with packed weights."""

    def __init__(self, modulation: NormModulation) -> None:
        super().__init__()
        self.count, self.dim = modulation.count, modulation.dim
        self.inner = PackedLinear(modulation.inner)
        self.outer = nn.ModuleList(PackedLinear(layer) for layer in _outer_layers(modulation))

    def forward(self, slots: torch.Tensor) -> torch.Tensor:
        """As :meth:`common.nn.relational_memory.NormModulation.forward`."""
        inner = self.inner(slots.flatten(0, 1)).relu().unflatten(1, [self.count, self.dim])  # (N * T, count, dim)
        outer = torch.stack([layer(inner[:, index]) for index, layer in enumerate(self.outer)])
        return outer.unflatten(1, [slots.shape[0], slots.shape[1]]).unflatten(0, [-1, 2])  # (norms, 2, N, T, dim)


def _outer_layers(modulation: NormModulation) -> list[nn.Linear]:
    """The second layers of ``modulation`` one by one, sharing the weights."""
    layers = [nn.utils.skip_init(nn.Linear, modulation.dim, modulation.dim) for _ in range(modulation.count)]
    for layer, weight, bias in zip(layers, modulation.outer_weight, modulation.outer_bias, strict=True):
        layer.weight, layer.bias = nn.Parameter(weight.t()), nn.Parameter(bias[0])
    return layers


def can_pack(module: nn.Module) -> bool:
    """Whether ``module`` lies on a CPU in float32, and torch has oneDNN's operators."""
    first = next(module.parameters(), None)
    if first is None or first.device.type != "cpu" or first.dtype != torch.float32:
        return False
    return torch.backends.mkldnn.is_available() and all(hasattr(torch.ops.mkldnn, name) for name in OPERATORS)


def pack_linear_layers(module: nn.Module) -> None:
    """Pack all linear layers inside ``module``, in place, where :func:`can_pack`; it cannot be trained after it."""
    for name, child in module.named_children():
        kind = {nn.Linear: PackedLinear, NormModulation: PackedModulation}.get(type(child))
        if kind is not None and can_pack(child):
            setattr(module, name, kind(child))  # type: ignore[arg-type]
        else:
            pack_linear_layers(child)


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
        linear: the part whose linear layers are packed, on CPUs in float32.
        convolutions: parts that get channels last: a 3x3 convolution of 32 channels takes a third of the time on CPUs.
            Group norm is less exact so, up to 1e-3 of the logits.
        amp: the network will run in a half float, which goes to oneDNN by itself.
    """

    def __init__(self, *, linear: nn.Module, amp: bool | str, convolutions: Iterable[nn.Module] = ()) -> None:
        self.linear, self.amp, self.convolutions = linear, amp, list(convolutions)

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, lambda _: self.apply())

    def apply(self) -> None:
        """Lay them out now."""
        for part in self.convolutions:
            part.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if not self.amp:
            pack_linear_layers(self.linear)
