"""One iteration of the detector's training and evaluation, for MONAI's engines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from torch import nn

from common.engine.steps import descend, emit

from .network import Detections, LesionDetector
from .teacher import TeacherAndStudent


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
        batch: items of :class:`d2rnet.detector.data.Paired`.
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
    """What :meth:`d2rnet.detector.teacher.TeacherAndStudent.terms` takes, of the items of a batch."""
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
        cases: ``factor`` and ``size`` of each image, of :class:`d2rnet.detector.data.LoadChestd`.
    """
    parts = [part.cpu().numpy() for part in (detections.boxes, detections.labels, detections.scores)]
    found: list[tuple[np.ndarray, ...]] = []
    for boxes, labels, scores, case in zip(*parts, cases, strict=True):
        own = np.clip(boxes / case["factor"], 0.0, [*case["size"], *case["size"]])
        there = (scores > 0) & (own[:, 2:] - own[:, :2] >= 1).all(axis=1)
        found.append((own[there], labels[there], scores[there]))
    return found


def network_of(pair: TeacherAndStudent) -> LesionDetector:
    """The teacher's network: what is evaluated and saved."""
    return pair.teacher.module  # type: ignore[return-value]
