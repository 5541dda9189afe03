"""Foreground-only metrics are MONAI's; the paper's code averages over background and nodule, so both are reported."""

from __future__ import annotations

from collections.abc import Callable

import torch
from monai.handlers import IgniteMetricHandler, MeanDice, MeanIoUHandler, from_engine

from common.metrics.segmentation import mask_metrics


def evaluation_metrics() -> dict[str, IgniteMetricHandler]:
    """Those of :func:`common.metrics.segmentation.mask_metrics`, and Dice and IoU of both classes, as published."""
    return {
        **mask_metrics(),
        "dice_two_class": MeanDice(output_transform=two_classes()),
        "iou_two_class": MeanIoUHandler(output_transform=two_classes()),
    }


def two_classes(keys: tuple[str, str] = ("pred", "label")) -> Callable:
    """An ``output_transform``: binary masks (1, H, W) of ``keys`` as background and nodule, (2, H, W)."""
    pick = from_engine(list(keys))

    def transform(output: list[dict]) -> tuple[list[torch.Tensor], ...]:
        return tuple([torch.cat([1 - mask, mask]) for mask in masks] for masks in pick(output))

    return transform
