"""Foreground-only metrics are MONAI's; the paper's code averages over background and nodule, so both are reported."""

from __future__ import annotations

from collections.abc import Callable

import torch
from monai.handlers import from_engine


def two_classes(keys: tuple[str, str] = ("pred", "label")) -> Callable:
    """An ``output_transform``: binary masks (1, H, W) of ``keys`` as background and nodule, (2, H, W)."""
    pick = from_engine(list(keys))

    def transform(output: list[dict]) -> tuple[list[torch.Tensor], ...]:
        return tuple([torch.cat([1 - mask, mask]) for mask in masks] for masks in pick(output))

    return transform
