"""Metrics of the detector's boxes: COCO's average precision, FROC, and counts for each image."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from ignite.engine import Engine, Events
from ignite.metrics import Metric
from monai.data.box_utils import box_iou

from common.engine.distributed import gather
from common.metrics.detection import detection_metrics


class AveragePrecision(Metric):
    """COCO's mean average precision of all images of a split, of every process.

    Raises:
        ValueError: no image has a box.
    """

    def __init__(self, *, classes: Sequence[str], output_transform: Callable = lambda output: output) -> None:
        self.classes = classes
        super().__init__(output_transform=output_transform)

    def reset(self) -> None:
        self.items: list[dict] = []

    def update(self, output: list[dict]) -> None:
        """``output`` of :func:`detect_step`."""
        self.items += output

    def compute(self) -> float:
        items = gather(self.items)
        predictions, targets = ([item[side] for item in items] for side in ("predictions", "targets"))
        return detection_metrics(predictions, targets, self.classes)["map"]


class DetectionMetrics:
    """Handler of the evaluation: :func:`common.metrics.detection.detection_metrics`, and counts for ``per_case.csv``.

    For each image ``targets``, those ``detected`` by a box of their label with ``score`` and an IoU of a half, and
    ``false_positives``.
    """

    def __init__(self, *, classes: Sequence[str], score: float) -> None:
        self.classes, self.score = classes, score
        self.items: list[dict] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, lambda _: self.items.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, lambda e: self.items.extend(e.state.output))
        engine.add_event_handler(Events.COMPLETED, self._compute)

    def _compute(self, engine: Engine) -> None:
        items = gather(self.items)
        predictions, targets = ([item[side] for item in items] for side in ("predictions", "targets"))
        engine.state.metrics.update(detection_metrics(predictions, targets, self.classes))
        rows = [self._counts(boxes, true) for boxes, true in zip(predictions, targets, strict=True)]
        columns = zip(
            ("targets", "detected", "false_positives"), torch.tensor(rows, dtype=torch.float32).T, strict=True
        )
        engine.state.metric_details |= dict(columns)  # type: ignore[attr-defined]

    def _counts(self, predictions: tuple[np.ndarray, ...], targets: tuple[np.ndarray, ...]) -> tuple[int, int, int]:
        (boxes, labels, scores), (true_boxes, true_labels) = predictions, targets
        sure = scores >= self.score
        if not sure.any() or not len(true_boxes):
            return len(true_boxes), 0, int(sure.sum())
        right = (box_iou(boxes[sure], true_boxes) >= 0.5) & (labels[sure][:, None] == true_labels[None])
        return len(true_boxes), int(right.any(0).sum()), int((~right.any(1)).sum())
