"""The report network as a file."""

from __future__ import annotations

import copy
import importlib
from collections.abc import Callable
from functools import partial, reduce
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from common.engine.export import Example, export, free_axes
from common.nn.attention import MultiHeadAttention
from common.nn.relational_memory import RelationalMemory

from .network import D2RNet


def as_functions(module: nn.Module, weights: dict[int, torch.Tensor]) -> Callable:
    """A linear layer, an activation, or a sequence of them, as a function of ``weights`` by their parameter's id."""
    if isinstance(module, nn.Linear):
        return lambda x: F.linear(x, weights[id(module.weight)], weights[id(module.bias)])
    if isinstance(module, nn.Sequential):
        parts = [as_functions(part, weights) for part in module]
        return lambda x: reduce(lambda value, part: part(value), parts, x)
    return torch.relu


def rewriting(memory: RelationalMemory, weights: dict[int, torch.Tensor]) -> Callable:
    """:meth:`common.nn.relational_memory.RelationalMemory.rewrite` without modules, which ``scan_op`` cannot trace."""
    attention: Any = SimpleNamespace(heads=memory.attention.heads, dropout=0.0, training=False)
    for name in ("query", "key", "value", "out"):
        setattr(attention, name, as_functions(getattr(memory.attention, name), weights))
    for method in (MultiHeadAttention.split, MultiHeadAttention.keys_values, MultiHeadAttention.attend):
        setattr(attention, method.__name__, partial(method, attention))
    parts = {name: as_functions(getattr(memory, name), weights) for name in ("mlp", "of_slots")}
    return partial(RelationalMemory.rewrite, SimpleNamespace(attention=attention, **parts))  # type: ignore[arg-type]


def scan_operator() -> Callable:
    """torch's scan, which is private: the public one fixes the batch's size while exporting (torch 2.13).

    Raises:
        ValueError: this torch has it no more.
    """
    try:
        return importlib.import_module("torch._higher_order_ops.scan").scan_op
    except (ImportError, AttributeError) as error:
        raise ValueError(
            f"export: torch {torch.__version__} has no scan_op, by which a report's length stays free; pip install "
            "torch==2.13.0, or export by ckpt_export, which writes TorchScript"
        ) from error


class ScannedMemory(nn.Module):
    """A relational memory whose loop over the words becomes ONNX's Scan, so that a report's length stays free.

    The operator takes the weights as inputs.
    """

    def __init__(self, memory: RelationalMemory) -> None:
        super().__init__()
        self.memory, self.scan = memory, scan_operator()

    def start(self, words: torch.Tensor) -> torch.Tensor:
        return self.memory.start(words)

    def forward(self, words: torch.Tensor, slots: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """As :meth:`common.nn.relational_memory.RelationalMemory.forward`."""
        seen, gates = self.memory.attention.keys_values(words), self.memory.of_word(words)
        known = list(self.memory.parameters())

        def rewrite(
            state: torch.Tensor, word: torch.Tensor, gate: torch.Tensor, *values: torch.Tensor
        ) -> list[torch.Tensor]:
            weights = {id(parameter): value for parameter, value in zip(known, values, strict=True)}
            new = rewriting(self.memory, weights)(state, word[:, :, :, None], gate[:, None])
            return [new, new.clone()]  # results may not share memory

        # (T, 2, N, heads, d) and (T, N, 2 * dim)
        steps = [seen.movedim(3, 0).contiguous(), gates.movedim(1, 0).contiguous()]
        last, results = self.scan(rewrite, [slots.clone()], steps, tuple(known))
        return results.movedim(0, 1).flatten(2), last  # (N, T, slots * dim), (N, slots, dim)


def export_network(
    *, network: D2RNet, path: str, views: int, size: int, length: int, regions: int, region_size: int
) -> None:
    """Write ``network`` to ``path``: ``image`` (B, views, 3, H, W), ``input_ids`` (B, T), ``regions`` (B, R, 3, S, S),
    ``region_mask`` (B, R) to ``pred`` (B, T, V).

    Batch, length, height and width (multiples of 32, from 64) and the regions' side (of 4) are free. Generation is a
    loop, which the TorchScript archive holds as ``generate``.
    """
    network = copy.deepcopy(network)
    axes = free_axes(length=network.report.max_length)
    inputs = {"image": torch.rand(2, views, 3, max(size, 64), size + 64), "input_ids": torch.full((2, length), 4)}
    free = {"image": {0: axes["batch"], 3: axes["rows"], 4: axes["columns"]}}
    free["input_ids"] = {0: axes["batch"], 1: axes["length"]}
    if network.visual.regions is not None:
        inputs["regions"] = torch.rand(2, regions, 3, region_size, region_size)
        inputs["region_mask"] = torch.ones(2, regions, dtype=torch.bool)
        side = 4 * torch.export.Dim("region_4", min=9)  # the least that five convolutions leave something of
        free["regions"], free["region_mask"] = {0: axes["batch"], 3: side, 4: side}, {0: axes["batch"]}
    relational: Any = network.report.decoder.relational
    relational.memory = ScannedMemory(relational.memory)
    export(network, Example(inputs, free), path=path, outputs=["pred"])
