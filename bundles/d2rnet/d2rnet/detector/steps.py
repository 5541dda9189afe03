"""One iteration of the detector's training and evaluation, for MONAI's engines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from torch import nn

from common.engine.failures import require_numbers
from common.engine.precision import autocast
from common.engine.steps import descend, emit, position_in_group

from .network import Detections, LesionDetector
from .teacher import TeacherAndStudent


def train_step(
    engine: SupervisedTrainer,
    batch: list[dict],
    *,
    pair: TeacherAndStudent,
    learner: nn.Module,
    clip_value: float,
    amp: bool | str,
) -> list[dict]:
    """Take one step of the student, and let the teacher follow.

    Args:
        batch: items of :class:`d2rnet.detector.data.PairedDataset`.
        learner: ``pair``, wrapped where there are several processes.
        clip_value: largest absolute value of a gradient's entry.
    """
    device, step = engine.state.device, engine.state.iteration - 1
    pair.train()
    with autocast(device, amp):
        terms = learner(stack_batch(batch, device), step)
    output = descend(
        engine, terms, weights=dict.fromkeys(terms, 1.0), parameters=pair.student.parameters(), clip_value=clip_value
    )
    if position_in_group(engine)[1]:
        pair.update(step)
    return output


def stack_batch(batch: list[dict], device: torch.device) -> dict[str, Any]:
    """What :meth:`d2rnet.detector.teacher.TeacherAndStudent.terms` takes, of the items of a batch."""
    labelled = [item["labelled"] for item in batch]
    unlabelled = [item["unlabelled"] for item in batch if "unlabelled" in item]
    stacked: dict[str, Any] = {key: [case[key].to(device) for case in labelled] for key in ("boxes", "labels")}
    for name in ("weak", "strong"):
        stacked[name] = torch.stack([case[name] for case in labelled]).to(device)
        views = [case[name] for case in unlabelled]
        stacked[f"unlabelled_{name}"] = torch.stack(views).to(device) if views else torch.empty(0, device=device)
    return stacked


def detect(detector: LesionDetector, images: torch.Tensor, names: Sequence[str]) -> Detections:
    """Lesions in ``images`` (B, 3, H, W), of B ``names``.

    Raises:
        common.engine.failures.NoNumberError: an answer is no number, of which suppression would leave nothing.
    """
    dense = detector.dense(images)
    for name, *answer in zip(names, dense.logits, dense.distances, dense.centerness, strict=True):
        require_numbers(name, dict(zip(("classes", "boxes", "centerness"), answer, strict=True)))
    return detector.postprocess(dense, images.shape[2], images.shape[3])


def detect_step(engine: SupervisedEvaluator, batch: list[dict], *, amp: bool | str) -> list[dict]:
    """``predictions`` (boxes, labels, scores) and ``targets`` (boxes, labels) of each image, in its pixels."""
    device = engine.state.device
    images = torch.stack([case["image_tensor"] for case in batch]).to(device)
    with torch.no_grad(), autocast(device, amp):
        detections = detect(engine.network.eval(), images, ["a case of this batch"] * len(images))  # type: ignore
    predictions = split_detections(detections, batch)
    targets = [(case["boxes"].numpy() / case["factor"], case["labels"].numpy()) for case in batch]
    return emit(engine, [{"predictions": p, "targets": t} for p, t in zip(predictions, targets, strict=True)])


def split_detections(detections: Detections, cases: Sequence[dict]) -> list[tuple[np.ndarray, ...]]:
    """Boxes (M, 4) in the pixels of each image, labels (M,), scores (M,).

    Boxes are cut off at the image's border; empty slots, and boxes in the black beside an image, are left out.

    Args:
        cases: ``factor`` and ``size`` of each image, of :class:`d2rnet.detector.data.LoadSquared`.
    """
    parts = [part.cpu().numpy() for part in (detections.boxes, detections.labels, detections.scores)]
    results: list[tuple[np.ndarray, ...]] = []
    for boxes, labels, scores, case in zip(*parts, cases, strict=True):
        inside = np.clip(boxes / case["factor"], 0.0, [*case["size"], *case["size"]])
        kept = (scores > 0) & (inside[:, 2:] - inside[:, :2] >= 1).all(axis=1)
        results.append((inside[kept], labels[kept], scores[kept]))
    return results


def network_of(pair: TeacherAndStudent) -> LesionDetector:
    """The teacher's network: what is evaluated and saved."""
    return pair.teacher.module  # type: ignore[return-value]
