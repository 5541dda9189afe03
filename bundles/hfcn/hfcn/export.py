"""The network as a file: image and mask to log-probabilities."""

from __future__ import annotations

import torch

from common.engine.export import Example, export, free_axes

from .network import HFCN


def export_network(*, network: HFCN, path: str, size: int) -> None:
    """Write ``network`` to ``path``: ``image`` (B, 2, H, W), with its mask, to log-probabilities ``pred`` (B, 2).

    Batch, height and width (multiples of 32, from 64) are free.
    """
    axes = free_axes()
    free = {"image": {0: axes["batch"], 2: axes["rows"], 3: axes["columns"]}}
    export(network, Example({"image": torch.rand(2, 2, max(size, 64), size + 64)}, free), path=path, outputs=["pred"])
