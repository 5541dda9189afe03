"""The network as a file: segmentation by the report, in ONNX with keyword probabilities."""

from __future__ import annotations

import torch
from torch import nn

from common.engine.export import Example, export, free_axes

from .network import AKESSFA


class _Explained(nn.Module):
    """``explain`` as ``forward``, for exporters that know no other method."""

    def __init__(self, network: AKESSFA) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, image: torch.Tensor, input_ids: torch.Tensor, attention_mask: torch.Tensor, sentence_ids: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        explanation = self.network.explain(image, input_ids, attention_mask, sentence_ids)
        return explanation.logits, explanation.keywords


def export_network(*, network: AKESSFA, path: str, size: int, length: int) -> None:
    """Write ``network`` to ``path``: image, input_ids, attention_mask, sentence_ids to ``pred`` (logits).

    ``.onnx`` has ``keywords`` (B, L), too. Batch, length, height and width (multiples of 32, from 64) are free.
    """
    axes = free_axes(length=512)
    inputs = {"image": torch.rand(2, 1, max(size, 64), size + 64)}
    inputs |= {
        name: torch.ones(2, length, dtype=torch.int64) for name in ("input_ids", "attention_mask", "sentence_ids")
    }
    free = {name: {0: axes["batch"], 1: axes["length"]} for name in inputs}
    free["image"] = {0: axes["batch"], 2: axes["rows"], 3: axes["columns"]}
    whole = _Explained(network) if path.endswith(".onnx") else network
    export(whole, Example(inputs, free), path=path, outputs=["pred", "keywords"])
