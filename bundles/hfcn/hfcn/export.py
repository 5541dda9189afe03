"""The network as a file: image to log-probabilities."""

from __future__ import annotations

import torch

from common.engine.export import Example, export, free_axes

from .network import HFCN


def export_network(*, network: HFCN, path: str, size: int) -> None:
    """Write ``network`` to ``path``: ``image`` (B, 1, H, W) to ``pred`` (B, 2), log-probabilities.

    Batch, height and width (multiples of 32, from 64) are free.
    """
    axes = free_axes()
    free = {"image": {0: axes["batch"], 2: axes["rows"], 3: axes["columns"]}}
    export(network, Example({"image": torch.rand(2, 1, max(size, 64), size + 64)}, free), path=path, outputs=["pred"])
