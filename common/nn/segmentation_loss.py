"""Dice plus cross-entropy, also of images that have nothing to segment."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from monai.losses import DiceLoss

EMPTY_SHARE = 0.01  # of an image's pixels: an area outlined on an image without a target that costs one half
_dice = DiceLoss(sigmoid=True, reduction="none")


def overlap_loss(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """MONAI's Dice plus cross-entropy of each channel, (B, C); its Dice of an empty mask is 1 whatever is outlined.

    Args:
        logits: (B, C, H, W).
        label: (B, 1, H, W) in {0, 1}.
    """
    target = label.expand_as(logits).to(logits.dtype)
    return _dice(logits, target).flatten(1) + _entropy(logits, target)


def segmentation_loss(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """:func:`overlap_loss` (B, C) to train with: images without a target count as much as the others.

    Dice has no gradient there. In its place stands the area A that is outlined, ``A / (A + s)`` with ``s`` 1 % of the
    pixels (ours).
    """
    target = label.expand_as(logits).to(logits.dtype)
    area = logits.sigmoid().mean(dim=(2, 3))
    outlined = area / (area + EMPTY_SHARE) + _entropy(logits, target)
    return torch.where(target.flatten(2).sum(2) == 0, outlined, overlap_loss(logits, label))


def mean_segmentation_loss(logits: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Mean of :func:`segmentation_loss` over the batch (B, C, H, W) and its channels."""
    return segmentation_loss(logits, label).mean()


def _entropy(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return F.binary_cross_entropy_with_logits(logits, target, reduction="none").mean(dim=(2, 3))
