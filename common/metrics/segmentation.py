"""Segmentation metrics that MONAI leaves open: distances that also count missed nodules, and nodules one by one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from monai.handlers import ConfusionMatrix, IgniteMetricHandler, MeanDice, MeanIoUHandler, from_engine
from monai.metrics import CumulativeIterationMetric, compute_hausdorff_distance, compute_surface_dice
from monai.transforms import Activationsd, AsDiscreted, Compose, CopyItemsd
from scipy.ndimage import label as components

from common.cli.verbose import hush

hush(messages=[".*always_return_as_numpy"])  # MONAI's own calls use what it deprecates
TOLERANCES = {"nsd": 2.0, "nsd_1px": 1.0}  # pixels of the network's input, within which a border is where it should be
MATCHED = 0.5  # IoU of a predicted piece with the nodule that it finds


def hausdorff95(
    prediction: torch.Tensor, truth: torch.Tensor, *, spacing: tuple[float, float] = (1.0, 1.0)
) -> torch.Tensor:
    """95th percentile of the symmetric Hausdorff distance, (B, C), of binary masks (B, C, H, W).

    MONAI gives NaN where a mask is empty and leaves it out of the mean, which rewards a network that predicts nothing.
    Here one empty mask costs the image's diagonal, and two empty masks agree: 0.

    Args:
        spacing: height and width of a pixel, in the unit of the distance.
    """
    distance = compute_hausdorff_distance(
        prediction, truth, include_background=True, percentile=95, spacing=list(spacing)
    )
    empty = torch.stack([(mask > 0).flatten(2).any(2).logical_not() for mask in (prediction, truth)])
    diagonal = math.hypot(truth.shape[2] * spacing[0], truth.shape[3] * spacing[1])
    distance = torch.where(empty.any(0), torch.full_like(distance, diagonal), distance)
    return torch.where(empty.all(0), torch.zeros_like(distance), distance)


def mean_dice(key: str = "pred") -> MeanDice:
    """MONAI's Dice of ``key`` with ``label``, entries of an evaluator's output, mean over images."""
    return MeanDice(output_transform=from_engine([key, "label"]))


class _Hausdorff95Metric(CumulativeIterationMetric):
    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return hausdorff95(y_pred, y)

    def aggregate(self) -> torch.Tensor:  # type: ignore[override]
        return self.get_buffer().mean()


def hausdorff95_handler(*, output_transform: Callable, save_details: bool = True) -> IgniteMetricHandler:
    """MONAI metric handler of :func:`hausdorff95`: its mean over images, and each image's value."""
    return IgniteMetricHandler(
        metric_fn=_Hausdorff95Metric(), output_transform=output_transform, save_details=save_details
    )


def surface_dice(
    prediction: torch.Tensor, truth: torch.Tensor, tolerance: float, *, spacing: tuple[float, float] = (1.0, 1.0)
) -> torch.Tensor:
    """Normalised surface distance at ``tolerance``, (B, C) in [0, 1], of binary masks (B, C, H, W).

    Two empty masks agree: 1; one empty mask gives 0 (Nikolov et al. 2021, as MONAI has it).

    Args:
        spacing: height and width of a pixel, in the unit of ``tolerance``.
    """
    classes = [tolerance] * truth.shape[1]
    values = compute_surface_dice(
        prediction, truth, class_thresholds=classes, include_background=True, spacing=list(spacing)
    )
    empty = ((prediction > 0).flatten(2).any(2) | (truth > 0).flatten(2).any(2)).logical_not()
    return torch.where(empty, torch.ones_like(values), torch.nan_to_num(values, nan=0.0))


class _SurfaceDice(CumulativeIterationMetric):
    def __init__(self, tolerance: float) -> None:
        super().__init__()
        self.tolerance = tolerance

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return surface_dice(y_pred, y, self.tolerance)

    def aggregate(self) -> torch.Tensor:  # type: ignore[override]
        return self.get_buffer().mean()


def count_nodules(prediction: np.ndarray, truth: np.ndarray) -> tuple[int, int, int]:
    """Nodules that were found, nodules, and predicted pieces that are none, of boolean masks (H, W).

    A connected piece of the prediction finds the nodule with which its IoU is above :data:`MATCHED`; there is one at
    most, and no other piece finds it.
    """
    pieces, count = components(prediction, structure=np.ones((3, 3)))
    nodules, known = components(truth, structure=np.ones((3, 3)))
    hits = 0
    for number in range(1, known + 1):
        nodule = nodules == number
        touching = [piece for piece in np.unique(pieces[nodule]) if piece]
        overlaps = [(nodule & (pieces == piece)).sum() / (nodule | (pieces == piece)).sum() for piece in touching]
        hits += max(overlaps, default=0.0) > MATCHED
    return int(hits), known, count - int(hits)


class _NoduleCounts(CumulativeIterationMetric):
    """Sums of :func:`count_nodules` over images, as one of two figures."""

    def __init__(self, figure: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.figure = figure

    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        pairs = zip(*((masks > 0).any(1).cpu().numpy() for masks in (y_pred, y)), strict=True)
        return torch.tensor([count_nodules(*pair) for pair in pairs], dtype=torch.float32)

    def aggregate(self) -> torch.Tensor:  # type: ignore[override]
        return self.figure(self.get_buffer())


def nodule_metrics(transform: Callable) -> dict[str, IgniteMetricHandler]:
    """``nodule_sensitivity``, the share of all nodules that were found, and ``false_positives`` an image."""
    figures = {
        "nodule_sensitivity": lambda counts: counts[:, 0].sum() / counts[:, 1].sum(),
        "false_positives": lambda counts: counts[:, 2].mean(),
    }
    return {
        name: IgniteMetricHandler(metric_fn=_NoduleCounts(figure), output_transform=transform, save_details=False)
        for name, figure in figures.items()
    }


def masks_of_logits(*, keys: str | Sequence[str]) -> Compose:
    """Transform of an engine's output: logits of ``keys`` (1, H, W) to masks of 0 and 1, cut at probability 0.5.

    The probabilities of ``pred``, one of them, become ``prob_map``.
    """
    probabilities = [Activationsd(keys=keys, sigmoid=True), CopyItemsd(keys="pred", names="prob_map")]
    return Compose([*probabilities, AsDiscreted(keys=keys, threshold=0.5)])


def mask_metrics(*, without: Sequence[str] = ()) -> dict[str, IgniteMetricHandler]:
    """IoU, HD95, NSD at two pixels and at one, precision and recall of ``pred`` against ``label``, and
    :func:`nodule_metrics`; Dice of other predictions.

    Args:
        without: names of the other predictions after ``pred_``, such as "without_report".
    """
    transform = from_engine(["pred", "label"])
    metrics: dict[str, IgniteMetricHandler] = {f"dice_{name}": mean_dice(f"pred_{name}") for name in without}
    metrics |= {
        "iou": MeanIoUHandler(output_transform=transform),
        "hd95": hausdorff95_handler(output_transform=transform),
    }
    for name, tolerance in TOLERANCES.items():
        metrics[name] = IgniteMetricHandler(metric_fn=_SurfaceDice(tolerance), output_transform=transform)
    for name, known in (("precision", "precision"), ("recall", "sensitivity")):
        metrics[name] = ConfusionMatrix(metric_name=known, save_details=False, output_transform=transform)
    return metrics | nodule_metrics(transform)
