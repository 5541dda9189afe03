"""Segmentation metrics that MONAI leaves open: a Hausdorff distance that also counts missed nodules."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from monai.handlers import ConfusionMatrix, IgniteMetricHandler, MeanDice, MeanIoUHandler, from_engine
from monai.metrics import CumulativeIterationMetric, compute_hausdorff_distance
from monai.transforms import Activationsd, AsDiscreted, Compose


def hausdorff95(prediction: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    """95th percentile of the symmetric Hausdorff distance in pixels, (B, C), of binary masks (B, C, H, W).

    MONAI gives NaN where a mask is empty and leaves it out of the mean, which rewards a network that predicts nothing.
    Here one empty mask costs the image's diagonal, and two empty masks agree: 0.
    """
    distance = compute_hausdorff_distance(prediction, truth, include_background=True, percentile=95)
    empty = torch.stack([(mask > 0).flatten(2).any(2).logical_not() for mask in (prediction, truth)])
    diagonal = float(torch.tensor(truth.shape[2:], dtype=torch.float32).norm())
    distance = torch.where(empty.any(0), torch.full_like(distance, diagonal), distance)
    return torch.where(empty.all(0), torch.zeros_like(distance), distance)


class _Hausdorff95Metric(CumulativeIterationMetric):
    def _compute_tensor(self, y_pred: torch.Tensor, y: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        return hausdorff95(y_pred, y)

    def aggregate(self) -> torch.Tensor:  # type: ignore[override]
        return self.get_buffer().mean()


def Hausdorff95(*, output_transform: Callable, save_details: bool = True) -> IgniteMetricHandler:
    """MONAI metric handler of :func:`hausdorff95`: its mean over images, and each image's value."""
    return IgniteMetricHandler(
        metric_fn=_Hausdorff95Metric(), output_transform=output_transform, save_details=save_details
    )


def masks_of_logits(*, keys: str | Sequence[str]) -> Compose:
    """Transform of an engine's output: logits of ``keys`` (1, H, W) to masks of 0 and 1, cut at probability 0.5."""
    return Compose([Activationsd(keys=keys, sigmoid=True), AsDiscreted(keys=keys, threshold=0.5)])


def mask_metrics(*, without: Sequence[str] = ()) -> dict[str, IgniteMetricHandler]:
    """IoU, HD95, precision and recall of ``pred`` against ``label``, and Dice of other predictions.

    Args:
        without: names of the other predictions after ``pred_``, such as "without_report".
    """
    transform = from_engine(["pred", "label"])
    metrics: dict[str, IgniteMetricHandler] = {
        f"dice_{name}": MeanDice(output_transform=from_engine([f"pred_{name}", "label"])) for name in without
    }
    metrics |= {"iou": MeanIoUHandler(output_transform=transform), "hd95": Hausdorff95(output_transform=transform)}
    for name, known in (("precision", "precision"), ("recall", "sensitivity")):
        metrics[name] = ConfusionMatrix(metric_name=known, save_details=False, output_transform=transform)
    return metrics
