"""Findings that the image shows, made known to the decoder of a report.

After Jin et al., "PromptMRG: Diagnosis-Driven Prompts for Medical Report Generation" (AAAI 2024): findings are
classified, and the report is written from the image and from the classes; in training from the true ones. There a token
of each class stands before the report. Here the vectors of all classes are added to the memory: from some hundred
reports a decoder does not learn to look for single tokens.
"""

from typing import Optional

import torch
from torch import nn


class FindingPrompts(nn.Module):
    """A linear classifier of findings, and what their classes add to the memory that a decoder reads.

    Args:
        findings: how many.
        features: numbers that a study is classified by.
        dim: of the memory's tokens.
        dropout: of the features.
    """

    thresholds: torch.Tensor

    def __init__(self, *, findings: int, features: int, dim: int, dropout: float = 0.5) -> None:
        super().__init__()
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(features, findings))
        self.classes = nn.Parameter(torch.randn(2, findings, dim))  # not there, there
        self.register_buffer("thresholds", torch.zeros(findings))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Features (B, features) to the findings' logits (B, findings)."""
        return self.head(features)

    @torch.jit.export
    def found(self, logits: torch.Tensor) -> torch.Tensor:
        """Bool (B, findings): those above their thresholds."""
        return logits > self.thresholds

    @torch.jit.export
    def condition(self, memory: torch.Tensor, logits: torch.Tensor, stated: Optional[torch.Tensor]) -> torch.Tensor:
        """``memory`` (B, S, dim) with the classes added.

        Args:
            stated: 0 or 1 (B, findings), what the true report states; None: :meth:`found`.
        """
        present = (self.found(logits) if stated is None else stated).to(memory.dtype)  # (B, findings)
        without, with_it = self.classes[0], self.classes[1]  # (findings, dim)
        each = without + present[:, :, None] * (with_it - without)  # (B, findings, dim)
        return memory + each.sum(1, keepdim=True) / each.shape[1] ** 0.5
