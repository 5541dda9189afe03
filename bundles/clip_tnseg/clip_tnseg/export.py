"""ONNX of the network: image and phrase to logits."""

from __future__ import annotations

import torch

from .network import CLIPTNseg


def export_onnx(*, network: CLIPTNseg, path: str, size: int, length: int) -> None:
    """Write ``network`` to ``path``: image, input_ids to ``pred`` (logits); batch and length are free."""
    end = network.clip.text.tower.config.eos_token_id  # type: ignore[union-attr]
    torch.onnx.export(
        network.cpu().eval(),
        kwargs={"image": torch.rand(2, 3, size, size), "input_ids": torch.full((2, length), end)},
        f=path,
        dynamic_shapes={
            "image": {0: torch.export.Dim.DYNAMIC},
            "input_ids": {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC},
        },
        output_names=["pred"],
        external_data=False,
        dynamo=True,
    )
