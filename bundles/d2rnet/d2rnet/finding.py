"""Lesions found by a trained detector in images on disk: for inference, and as pseudo-labels of studies."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import Transform

from common.command_line import require_file

from .chests import whole_transforms
from .detection import split_detections
from .detector import LesionDetector

logger = logging.getLogger(__name__)


def save_labels(path: str, labels: Sequence[str]) -> None:
    """Write the names of the detector's classes beside its weights."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    part = f"{path}.{os.getpid()}.part"
    Path(part).write_text(json.dumps(list(labels), ensure_ascii=False, indent=1), encoding="utf-8")
    os.replace(part, path)


class LesionFinder:
    """A trained detector with the names of its classes.

    Args:
        detector: its network, whose weights are read from ``weights``.
        labels: the file that training leaves beside them.
        size: of the square that images are scaled to.
        score: boxes below are left out.

    Raises:
        FileNotFoundError: no file ``weights`` or ``labels``.
        ValueError: another number of labels than of classes.
    """

    def __init__(
        self, detector: LesionDetector, *, weights: str, labels: str, size: int, score: float, device: torch.device
    ) -> None:
        remedy = "run train_detector.json first, or pass its path"
        state = torch.load(require_file(weights, id="detector_weights", remedy=remedy), weights_only=True)
        self.labels = json.loads(Path(require_file(labels, id="detector_labels", remedy=remedy)).read_text("utf-8"))
        if len(self.labels) != detector.classes:
            raise ValueError(
                f"detector_labels: {labels!r} names {len(self.labels)} classes, the network has {detector.classes}; "
                "pass the file of the same training"
            )
        detector.load_state_dict(state)
        self.detector = detector.to(device).eval()
        self.transforms, self.score, self.device = whole_transforms(size=size), score, device

    @torch.no_grad()
    def __call__(self, paths: Sequence[str]) -> list[dict]:
        """``boxes`` float32 (M, 4), x1, y1, x2, y2 in pixels, ``scores`` (M,), ``box_labels`` of each image."""
        cases = [self.transforms({"image": path}) for path in paths]
        images = torch.stack([case["seen"] for case in cases]).to(self.device)
        found = split_detections(self.detector(images), [case["factor"] for case in cases])
        return [self._named(*own) for own in found]

    def _named(self, boxes: np.ndarray, labels: np.ndarray, scores: np.ndarray) -> dict:
        sure = scores >= self.score
        names = [self.labels[label] for label in labels[sure]]
        return {"boxes": boxes[sure].astype(np.float32), "scores": scores[sure], "box_labels": names}


class FindLesionsd(Transform):
    """Add ``boxes``, ``scores`` and ``box_labels`` of the first of ``images``, where the data have none yet."""

    def __init__(self, finder: LesionFinder | None) -> None:
        self.finder = finder

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        if self.finder is None or "boxes" in data:
            return dict(data)
        return {**data, **self.finder(data["images"][:1])[0]}
