"""ONNX of the network: image to log-probabilities."""

from __future__ import annotations

import torch

from .network import HFCN


def export_onnx(*, network: HFCN, path: str, size: int) -> None:
    """Write ``network`` to ``path``: ``image`` (B, 1, H, W) to ``pred`` (B, 2); the batch is free."""
    torch.onnx.export(
        network.cpu().eval(),
        kwargs={"image": torch.rand(2, 1, size, size)},
        f=path,
        dynamic_shapes={"image": {0: torch.export.Dim("batch", min=1)}},
        output_names=["pred"],
        external_data=False,
        dynamo=True,
    )
