"""Losses of AKE-SSFA besides the segmentation's (:mod:`common.nn.losses`, of each version of a report)."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def alignment_loss(affinity: torch.Tensor, input_ids: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Contrast of regions with reports (InfoNCE over the batch): a nodule shall find its words in its own report.

    Our completion; without it, on speckled images, pixels do not learn which sentence is theirs. Reports equal to an
    image's own are no negatives of it; images without a nodule or without a report do not count.

    Args:
        affinity: (B, B), rows images and columns reports.
        input_ids: int64 (B, L).
        label: (B, 1, H, W).
    """
    equal = (input_ids[:, None, :] == input_ids[None, :, :]).all(2)
    other = equal & ~torch.eye(len(equal), dtype=torch.bool, device=equal.device)
    target = torch.arange(len(affinity), device=affinity.device)
    losses = F.cross_entropy(affinity.masked_fill(other, -1e4), target, reduction="none")
    counted = ((label.flatten(1).sum(1) > 0) & (input_ids > 0).any(1)).float()
    return (losses * counted).sum() / counted.sum().clamp(min=1.0)


def attribution_targets(cost: torch.Tensor, valid: torch.Tensor, *, margin: float, temperature: float) -> torch.Tensor:
    """How much each erased sentence explains the segmentation, (B, K): softmax against "no sentence" (our completion).

    Args:
        cost: (B, K), the loss without the sentence minus the loss with the full report.
        valid: (B, K) bool, false for slots that hold no sentence.
        margin: cost that "no sentence" stands for.
        temperature: of the softmax.
    """
    nothing = torch.full_like(cost[:, :1], margin)
    scores = torch.cat([nothing, cost.masked_fill(~valid, float("-inf"))], dim=1) / temperature
    return torch.softmax(scores, dim=1)[:, 1:]


def word_share(cost: torch.Tensor, whole: torch.Tensor, *, margin: float, share: float) -> torch.Tensor:
    """How much of what its sentence costs a word costs alone, (B, K) in [0, 1] (our completion).

    Args:
        cost: (B, K), the loss without the word minus the loss with the full report.
        whole: (B, 1), the same without its whole sentence.
        margin: a sentence that costs less is taken to cost so much.
        share: of the sentence's cost that makes a full keyword; words that say the same stand in for each other, so
            few cost more.
    """
    return (cost / (share * whole.clamp(min=margin))).clamp(0, 1)


def keyword_loss(scores: torch.Tensor, targets: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
    """Weighted mean of the binary cross-entropy of keyword logits, all (B, L); 0 weighs a word without a target."""
    entropy = F.binary_cross_entropy_with_logits(scores, targets, reduction="none")
    return (entropy * weight).sum() / weight.sum().clamp(min=1.0)
