"""Lesions found by a trained detector in images on disk: for inference, and as pseudo-labels of studies."""

from __future__ import annotations

import json
import logging
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.transforms import Transform

from common.cli.atomic import write_json
from common.cli.given import require_file

from .data import whole_transforms
from .network import LesionDetector, nms
from .steps import detect, split_detections

logger = logging.getLogger(__name__)
OVERLAP = 0.6  # of boxes of different classes that count as one region
REMEDY = "run train_detector.json first, or pass its path"


def save_settings(path: str, *, labels: Sequence[str], image_size: int) -> list[str]:
    """Write what belongs to a detector's weights to ``path``, which is returned: class names, size of its images."""
    write_json(path, {"labels": list(labels), "image_size": image_size}, indent=1)
    return [path]


def load_settings(path: str) -> dict:
    """``labels`` and ``image_size`` of a trained detector.

    Raises:
        FileNotFoundError: no file ``path``.
        ValueError: it is of another kind.
    """
    content = json.loads(Path(require_file(path, id="detector_settings", remedy=REMEDY)).read_text("utf-8"))
    if not isinstance(content, dict) or not {"labels", "image_size"} <= content.keys():
        raise ValueError(f"detector_settings: {path!r} holds no labels and image_size; pass the file of a training")
    return content


def class_count(settings: dict | None) -> int | None:
    """How many labels a detector with ``settings`` tells apart; None where there is no detector."""
    return None if settings is None else len(settings["labels"])


class TrainedDetector:
    """A trained detector.

    Args:
        detector: its network, whose weights are read from ``weights``.
        settings: of :func:`load_settings`.
        score: boxes below are left out.

    Raises:
        FileNotFoundError: no file ``weights``.
    """

    def __init__(
        self, detector: LesionDetector, *, weights: str, settings: dict, score: float, device: torch.device
    ) -> None:
        file = require_file(weights, id="detector_weights", remedy=REMEDY)
        detector.load_state_dict(torch.load(file, map_location="cpu", weights_only=True))
        self.detector, self.labels, self.settings = detector.to(device).eval(), settings["labels"], settings
        self.transforms, self.score, self.device = whole_transforms(size=settings["image_size"]), score, device

    @torch.no_grad()
    def __call__(self, paths: Sequence[str]) -> list[dict]:
        """``boxes`` float32 (M, 4), xyxy, pixels, ``scores`` (M,), ``box_labels`` of each image.

        Of boxes of any class that overlap, the top-scoring one stays: a region has one slot in the report network.
        """
        cases = [self.transforms({"image": path}) for path in paths]
        images = torch.stack([case["image_tensor"] for case in cases]).to(self.device)
        results = split_detections(detect(self.detector, images, paths), cases)
        return [self._named(*current) for current in results]

    def _named(self, boxes: np.ndarray, labels: np.ndarray, scores: np.ndarray) -> dict:
        sure = np.flatnonzero(scores >= self.score)
        alike = nms(torch.from_numpy(boxes[sure]), torch.zeros(len(sure)), iou_thresh=OVERLAP, limit=len(sure))
        sure = sure[alike.numpy()]
        names = [self.labels[label] for label in labels[sure]]
        return {"boxes": boxes[sure].astype(np.float32), "scores": scores[sure], "box_labels": names}


class DetectLesionsd(Transform):
    """Add ``boxes``, ``scores`` and ``box_labels`` of the first of ``images``, where the data have none yet."""

    def __init__(self, detector: TrainedDetector | None) -> None:
        self.detector = detector

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        if self.detector is None or "boxes" in data:
            return dict(data)
        return {**data, **self.detector(data["images"][:1])[0]}
