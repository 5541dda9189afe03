"""ONNX of the network: views and the report so far to the next token."""

from __future__ import annotations

import torch

from .network import SGF


def export_onnx(*, network: SGF, path: str, size: int, length: int) -> None:
    """Write ``network`` to ``path``: ``image`` (B, views, 3, H, W), ``input_ids`` (B, T) to ``pred`` (B, T, V).

    Batch and length are free. Generation is a loop, which the TorchScript archive holds as ``generate``.
    """
    ids = torch.full((2, length), 4)
    torch.onnx.export(
        network.cpu().eval(),
        kwargs={"image": torch.rand(2, network.views, 3, size, size), "input_ids": ids},
        f=path,
        dynamic_shapes={
            "image": {0: torch.export.Dim("batch", min=1)},
            "input_ids": {0: torch.export.Dim("batch", min=1), 1: torch.export.Dim("length", min=1)},
        },
        output_names=["pred"],
        external_data=False,
        dynamo=True,
    )
