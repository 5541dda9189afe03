"""Losses of HFCN, a named term for each branch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.utils.class_weight import compute_class_weight

from .network import Branches, average


def branch_losses(
    branches: Branches, fused: torch.Tensor, label: torch.Tensor, class_weights: torch.Tensor | None = None
) -> dict[str, torch.Tensor]:
    """Negative log-likelihood of the global branch, of the crops' mean probability, and of both together.

    Args:
        fused: log-probabilities (B, 2) of both branches together.
        label: int64 (B,), 0 benign, 1 malignant.
        class_weights: (2,), of benign and malignant images.
    """
    predictions = {"global": branches.whole, "crops": average(branches.crops), "hybrid": fused}
    return {name: F.nll_loss(value.float(), label, weight=class_weights) for name, value in predictions.items()}


def inverse_frequency(cases: Sequence[Mapping]) -> list[float]:
    """Weights of benign and malignant that give both the same share of the loss; their mean over images is 1.

    Args:
        cases: of training, each with ``malignancy``, 0 or 1.

    Raises:
        ValueError: a class has no image.
    """
    labels = [case["malignancy"] for case in cases]
    counts = [sum(label == value for label in labels) for value in (0, 1)]
    if min(counts) == 0:
        raise ValueError(f"class weights: {counts[0]} benign and {counts[1]} malignant images; both need one at least")
    return compute_class_weight("balanced", classes=np.array([0, 1]), y=labels).tolist()
