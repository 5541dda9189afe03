"""Dice plus cross-entropy, also of images that have nothing to segment."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from monai.losses import DiceLoss

HALF_AREA = 0.01  # of an image's pixels: outlined on an image without a target, it costs half of the term
_dice = DiceLoss(sigmoid=True, reduction="none")


def segmentation_loss(logits: torch.Tensor, label: torch.Tensor, *, empty_weight: float = 0.0) -> torch.Tensor:
    """MONAI's Dice plus cross-entropy of each channel, (B, C).

    The Dice of an empty mask is 1 whatever is outlined, without a gradient: what teaches a network to outline nothing
    is the cross-entropy alone. ``empty_weight`` puts so much of the outlined area A in its place, ``A / (A + s)`` with
    ``s`` 1 % of the pixels (ours): fewer images without a target are outlined, and more targets are missed.

    Args:
        logits: (B, C, H, W).
        label: (B, 1, H, W) in {0, 1}.
        empty_weight: in [0, 1]; 0: as MONAI has it; 1: an image without a target counts about as much as one with.
    """
    target = label.expand_as(logits).to(logits.dtype)
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean(dim=(2, 3))
    area = logits.sigmoid().mean(dim=(2, 3))
    empty = (target.flatten(2).sum(2) == 0).to(logits.dtype)
    outlined = empty_weight * empty * (area / (area + HALF_AREA) - 1)
    return _dice(logits, target).flatten(1) + outlined + entropy


def mean_segmentation_loss(logits: torch.Tensor, label: torch.Tensor, *, empty_weight: float = 0.0) -> torch.Tensor:
    """Mean of :func:`segmentation_loss` over the batch (B, C, H, W) and its channels."""
    return segmentation_loss(logits, label, empty_weight=empty_weight).mean()
