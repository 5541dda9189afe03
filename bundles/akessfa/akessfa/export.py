"""ONNX with every input of the network: segmentation and keyword probabilities."""

from __future__ import annotations

import torch
from torch import nn

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


def export_onnx(*, network: AKESSFA, path: str, size: int, length: int) -> None:
    """Write ``network`` to ``path``: image, input_ids, attention_mask, sentence_ids to ``pred`` (logits), ``keywords``.

    Batch, length, height and width (multiples of 32) are free.
    """
    ids = torch.ones(2, length, dtype=torch.int64)
    names = ("input_ids", "attention_mask", "sentence_ids")
    batch, words = torch.export.Dim("batch", min=1), torch.export.Dim("length", min=1)
    height, width = torch.export.Dim("height_32", min=1), torch.export.Dim("width_32", min=1)
    torch.onnx.export(
        _Explained(network.cpu().eval()),
        kwargs={"image": torch.rand(2, 1, size, size), **{name: ids.clone() for name in names}},
        f=path,
        dynamic_shapes={
            "image": {0: batch, 2: 32 * height, 3: 32 * width},
            **{name: {0: batch, 1: words} for name in names},
        },
        output_names=["pred", "keywords"],
        external_data=False,
        dynamo=True,
    )
