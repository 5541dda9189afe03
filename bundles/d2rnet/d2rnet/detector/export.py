"""The detector as a file."""

from __future__ import annotations

import torch
from torch import nn

from common.engine.export import Example, export, free_axes

from .network import LesionDetector, boxes_of, scores_of


class DenseBoxes(nn.Module):
    """All boxes of the detector, before non-maximum suppression."""

    def __init__(self, detector: LesionDetector) -> None:
        super().__init__()
        self.detector = detector

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Boxes (B, N, 4) in pixels, which may leave the image, and scores (B, N, classes)."""
        dense = self.detector.dense(image)
        return boxes_of(dense), scores_of(dense)


def export_detector(*, detector: LesionDetector, path: str, size: int) -> None:
    """Write ``detector`` to ``path``: ``image`` (B, 3, H, W) to ``boxes`` and ``scores`` of :class:`DenseBoxes`."""
    axes = free_axes()
    free = {"image": {0: axes["batch"], 2: axes["rows"], 3: axes["columns"]}}
    example = Example({"image": torch.rand(2, 3, max(size, 64), size + 64)}, free)
    export(DenseBoxes(detector), example, path=path, outputs=["boxes", "scores"])
