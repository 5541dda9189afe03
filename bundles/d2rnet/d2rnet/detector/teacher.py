"""Unbiased Teacher v2 (Liu et al., CVPR 2022) for the lesion detector: a student learns from its teacher's boxes.

While burning in, the student learns from labelled images alone, in a weak and a strong view each. Then the teacher, the
moving average of the student, finds boxes in weak views of unlabelled images; the student learns them in strong views:
their classes everywhere, their distances only where the teacher is more certain than the student (spec 5.8).
"""

from __future__ import annotations

from collections.abc import Sized
from typing import NamedTuple

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from .assignment import focal, gather_assigned, losses, targets_of
from .network import Dense, LesionDetector


class PseudoBoxes(NamedTuple):
    """Boxes of the teacher above the threshold, one tensor an image.

    Attributes:
        boxes: (M, 4), xyxy, pixels.
        labels: int64 (M,).
        std: (M, 4), standard deviations of the distances in strides.
    """

    boxes: list[torch.Tensor]
    labels: list[torch.Tensor]
    std: list[torch.Tensor]


def burn_in_steps(*, share: float, epochs: int, loader: Sized) -> int:
    """Steps of the ``share`` of a training of ``epochs`` over ``loader``, one at least."""
    return max(1, int(share * epochs * len(loader)))


class TeacherAndStudent(nn.Module):
    """The pair.

    Args:
        student: learns by gradient; the teacher, a copy, is what is evaluated and saved.
        burn_in: steps before the teacher finds boxes and becomes an average; until then it is a copy of the student.
        ema_decay: of the moving average (published 0.9996 in 320,000 steps; short runs need less).
        threshold: score of the teacher's boxes that are learned (published: 0.89 of a two-stage detector's scores).
        margin, min_certainty: a distance is learned where the teacher's certainty, 1 - std, exceeds the student's by
            ``margin`` and is above ``min_certainty``.
        weights: of the labelled terms' likelihood and of the unlabelled terms: ``std``, ``classes``, ``boxes``.

    Raises:
        ValueError: ``burn_in`` is below 1.
    """

    def __init__(
        self,
        student: LesionDetector,
        *,
        burn_in: int,
        ema_decay: float = 0.9996,
        threshold: float = 0.7,
        margin: float = 0.1,
        min_certainty: float = 0.5,
        weights: dict[str, float],
    ) -> None:
        super().__init__()
        if burn_in < 1:
            raise ValueError(f"burn_in: {burn_in} must be positive; the teacher needs a student that knows something")
        self.student = student
        self.teacher = AveragedModel(student, multi_avg_fn=get_ema_multi_avg_fn(ema_decay), use_buffers=True)
        self.teacher.requires_grad_(False)  # it follows; data parallel has nothing to average there
        self.burn_in, self.threshold, self.margin, self.min_certainty = burn_in, threshold, margin, min_certainty
        self.weights = weights

    def forward(self, batch: dict, step: int) -> dict[str, torch.Tensor]:
        """Named, weighted terms of the loss at ``step``, from 0.

        Args:
            batch: ``weak``, ``strong`` (B, 3, H, W), ``boxes``, ``labels`` (lists) of labelled images, and, used after
                ``burn_in``, ``unlabelled_weak``, ``unlabelled_strong`` (U, 3, H, W), the same cut in both views.
        """
        both = self.student.dense(torch.cat([batch["weak"], batch["strong"]]))
        known = losses(both, batch["boxes"] * 2, batch["labels"] * 2, std_weight=self.weights["std"])
        if self.is_burning_in(step) or len(batch["unlabelled_weak"]) == 0:
            return known
        pseudo = self.pseudo_boxes(batch["unlabelled_weak"])
        dense = self.student.dense(batch["unlabelled_strong"])
        learned = self.unlabelled_terms(dense, pseudo)
        return known | {f"unlabelled {name}": self.weights[name] * value for name, value in learned.items()}

    def is_burning_in(self, step: int) -> bool:
        """Whether the teacher has not begun; a longer training that is resumed does not let it forget."""
        return step < self.burn_in and not self.teacher.n_averaged

    @torch.no_grad()
    def pseudo_boxes(self, images: torch.Tensor) -> PseudoBoxes:
        """What the teacher finds in ``images`` (U, 3, H, W)."""
        detections = self.teacher.eval()(images)
        sure = detections.scores > self.threshold
        split = [
            [part[i][sure[i]] for i in range(len(sure))]
            for part in (detections.boxes, detections.labels, detections.std)
        ]
        return PseudoBoxes(*split)

    def unlabelled_terms(self, dense: Dense, pseudo: PseudoBoxes) -> dict[str, torch.Tensor]:
        """``classes``: focal; ``boxes``: L1 of the distances of which the teacher is more certain, in strides; scalars.

        Args:
            dense: the student's outputs (U, N, ...) of the strong views.
            pseudo: the teacher's boxes in the same U images.
        """
        targets = targets_of(dense, pseudo.boxes, pseudo.labels)
        classes = focal(dense.logits, targets.classes)
        if len(targets.image) == 0:
            return {"classes": classes, "boxes": dense.distances.sum() * 0}
        certainty = 1 - gather_assigned(pseudo.std, targets.image, targets.box)
        student_certainty = 1 - dense.std_logits[targets.positive].detach().sigmoid()
        learned_here = (certainty > student_certainty + self.margin) & (certainty > self.min_certainty)
        distance = (dense.distances[targets.positive] - targets.distances).abs()
        return {"classes": classes / targets.total, "boxes": (distance * learned_here).sum() / targets.total}

    def update(self, step: int) -> None:
        """Let the teacher follow, after the optimiser's ``step``; while burning in, and as it ends, as a copy."""
        if not self.is_burning_in(step + 1):
            self.teacher.update_parameters(self.student)
        else:
            self.teacher.module.load_state_dict(self.student.state_dict())
