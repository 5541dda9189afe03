"""One iteration of the detector's training and evaluation, for MONAI's engines, and the metrics of its boxes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from ignite.metrics import Metric
from monai.data.box_utils import box_iou
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from torch import nn

from common.detection_metrics import detection_metrics
from common.distributed import gather
from common.report_training import descend
from common.steps import emit

from .detector import Detections, LesionDetector
from .semi_supervised import TeacherAndStudent


def train_step(
    engine: SupervisedTrainer,
    batch: list[dict],
    *,
    pair: TeacherAndStudent,
    learner: nn.Module,
    clip_value: float,
    amp: bool,
) -> list[dict]:
    """Take one step of the student, and let the teacher follow.

    Args:
        batch: items of :class:`d2rnet.chests.Paired`.
        learner: ``pair``, wrapped where there are several processes.
        clip_value: largest absolute value of a gradient's entry.
    """
    device, step = engine.state.device, engine.state.iteration - 1
    pair.train()
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=amp):
        terms = learner(together(batch, device), step)
    output = descend(
        engine, terms, weights=dict.fromkeys(terms, 1.0), parameters=pair.student.parameters(), clip_value=clip_value
    )
    pair.update(step)
    return output


def together(batch: list[dict], device: torch.device) -> dict[str, Any]:
    """What :meth:`d2rnet.semi_supervised.TeacherAndStudent.terms` takes, of the items of a batch."""
    labelled = [item["labelled"] for item in batch]
    unlabelled = [item["unlabelled"] for item in batch if "unlabelled" in item]
    found: dict[str, Any] = {key: [case[key].to(device) for case in labelled] for key in ("boxes", "labels")}
    for name in ("weak", "strong"):
        found[name] = torch.stack([case[name] for case in labelled]).to(device)
        views = [case[name] for case in unlabelled]
        found[f"unlabelled_{name}"] = torch.stack(views).to(device) if views else torch.empty(0, device=device)
    return found


def detect_step(engine: SupervisedEvaluator, batch: list[dict], *, amp: bool) -> list[dict]:
    """``found`` (boxes, labels, scores) and ``wanted`` (boxes, labels) of each image, in its own pixels."""
    device = engine.state.device
    images = torch.stack([case["seen"] for case in batch]).to(device)
    with torch.no_grad(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=amp):
        detections = engine.network.eval()(images)
    found = split_detections(detections, batch)
    wanted = [(case["boxes"].numpy() / case["factor"], case["labels"].numpy()) for case in batch]
    return emit(engine, [{"found": own, "wanted": true} for own, true in zip(found, wanted, strict=True)])


def split_detections(detections: Detections, cases: Sequence[dict]) -> list[tuple[np.ndarray, ...]]:
    """Boxes (M, 4) in the pixels of each image, labels (M,), scores (M,).

    Boxes are cut off at the image's border; empty places, and boxes in the black beside an image, are left out.

    Args:
        cases: ``factor`` and ``size`` of each image, of :class:`d2rnet.chests.LoadChestd`.
    """
    parts = [part.cpu().numpy() for part in (detections.boxes, detections.labels, detections.scores)]
    found: list[tuple[np.ndarray, ...]] = []
    for boxes, labels, scores, case in zip(*parts, cases, strict=True):
        own = np.clip(boxes / case["factor"], 0.0, [*case["size"], *case["size"]])
        there = (scores > 0) & (own[:, 2:] - own[:, :2] >= 1).all(axis=1)
        found.append((own[there], labels[there], scores[there]))
    return found


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
        found, wanted = ([item[side] for item in items] for side in ("found", "wanted"))
        return detection_metrics(found, wanted, self.classes)["map"]


class DetectionMetrics:
    """Handler of the evaluation: :func:`common.detection_metrics.detection_metrics`, and in ``per_case.csv`` for each
    image the boxes ``wanted``, those ``detected`` by a box of their label with ``score`` and an overlap of a half, and
    the ``false_positives``.
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
        found, wanted = ([item[side] for item in items] for side in ("found", "wanted"))
        engine.state.metrics.update(detection_metrics(found, wanted, self.classes))
        rows = [self._counts(own, true) for own, true in zip(found, wanted, strict=True)]
        columns = zip(("wanted", "detected", "false_positives"), torch.tensor(rows, dtype=torch.float32).T, strict=True)
        engine.state.metric_details |= dict(columns)  # type: ignore[attr-defined]

    def _counts(self, found: tuple[np.ndarray, ...], wanted: tuple[np.ndarray, ...]) -> tuple[int, int, int]:
        (boxes, labels, scores), (true_boxes, true_labels) = found, wanted
        sure = scores >= self.score
        if not sure.any() or not len(true_boxes):
            return len(true_boxes), 0, int(sure.sum())
        right = (box_iou(boxes[sure], true_boxes) >= 0.5) & (labels[sure][:, None] == true_labels[None])
        return len(true_boxes), int(right.any(0).sum()), int((~right.any(1)).sum())


def network_of(pair: TeacherAndStudent) -> LesionDetector:
    """The teacher's network: what is evaluated and saved."""
    return pair.teacher.module  # type: ignore[return-value]
