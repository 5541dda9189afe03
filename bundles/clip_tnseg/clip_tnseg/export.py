"""The network as a file: image and phrase to logits."""

from __future__ import annotations

import torch

from common.engine.export import Example, export, free_axes

from .network import CLIPTNseg


def export_network(*, network: CLIPTNseg, path: str, size: int, length: int) -> None:
    """Write ``network`` to ``path``: image, input_ids to ``pred`` (logits).

    Batch, the phrase's length, height and width (multiples of 32, from 64) are free.
    """
    axes = free_axes(length=network.clip.max_length)
    ids = torch.full((2, length), network.clip.end_id)
    inputs = {"image": torch.rand(2, 3, max(size, 64), size + 64), "input_ids": ids}
    free = {"image": {0: axes["batch"], 2: axes["rows"], 3: axes["columns"]}}
    free["input_ids"] = {0: axes["batch"], 1: axes["length"]}
    export(network, Example(inputs, free), path=path, outputs=["pred"])
