"""The network as a file: views and the report so far to the next token."""

from __future__ import annotations

import torch

from common.engine.export import Example, export, free_axes

from .network import SGF


def export_network(*, network: SGF, path: str, size: int, length: int) -> None:
    """Write ``network`` to ``path``: ``image`` (B, views, 3, H, W), ``input_ids`` (B, T) to ``pred`` (B, T, V).

    Batch, length, height and width (multiples of 32, from 64) are free. Generation is a loop, which the TorchScript
    archive holds as ``generate``.
    """
    axes = free_axes(length=network.report.max_length)
    inputs = {
        "image": torch.rand(2, network.views, 3, max(size, 64), size + 64),
        "input_ids": torch.full((2, length), 4),
    }
    free = {"image": {0: axes["batch"], 3: axes["rows"], 4: axes["columns"]}}
    free["input_ids"] = {0: axes["batch"], 1: axes["length"]}
    export(network, Example(inputs, free), path=path, outputs=["pred"])
