"""Unbiased Teacher v2 (Liu et al., CVPR 2022) for the lesion detector: a student learns from its teacher's boxes.

While burning in, the student learns from labelled images alone, in a weak and a strong view each. Then the teacher, the
moving average of the student, finds boxes in weak views of unlabelled images; the student learns them in strong views:
their classes everywhere, their sides only where the teacher is surer than the student (spec 5.8).
"""

from __future__ import annotations

from collections.abc import Sized
from typing import NamedTuple

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from .assignment import assign, focal, losses, of_owners
from .network import Dense, LesionDetector


class PseudoBoxes(NamedTuple):
    """Boxes that the teacher is sure of, one tensor an image.

    Attributes:
        boxes: (M, 4), x1, y1, x2, y2 in pixels.
        labels: int64 (M,).
        spread: (M, 4), standard deviations of the sides in strides.
    """

    boxes: list[torch.Tensor]
    labels: list[torch.Tensor]
    spread: list[torch.Tensor]


def burn_in_steps(*, share: float, epochs: int, loader: Sized) -> int:
    """Steps of the ``share`` of a training of ``epochs`` over ``loader``, one at least."""
    return max(1, int(share * epochs * len(loader)))


class TeacherAndStudent(nn.Module):
    """The pair.

    Args:
        student: learns by gradient; the teacher, a copy, is what is evaluated and saved.
        burn_in: steps before the teacher finds boxes and becomes an average; until then it is a copy of the student.
        keep: share of the teacher that stays at each step (published 0.9996 in 320,000 steps; short runs need less).
        threshold: score of the teacher's boxes that are learned (published: 0.89 of a two-stage detector's scores).
        margin, least: a side is learned where the teacher's certainty, 1 - spread, exceeds the student's by ``margin``
            and is above ``least``.
        weights: of the labelled terms' spread and of the unlabelled terms: ``spread``, ``classes``, ``boxes``.

    Raises:
        ValueError: ``burn_in`` is below 1.
    """

    def __init__(
        self,
        student: LesionDetector,
        *,
        burn_in: int,
        keep: float = 0.9996,
        threshold: float = 0.7,
        margin: float = 0.1,
        least: float = 0.5,
        weights: dict[str, float],
    ) -> None:
        super().__init__()
        if burn_in < 1:
            raise ValueError(f"burn_in: {burn_in} must be positive; the teacher needs a student that knows something")
        self.student = student
        self.teacher = AveragedModel(student, multi_avg_fn=get_ema_multi_avg_fn(keep), use_buffers=True)
        self.teacher.requires_grad_(False)  # it follows; data parallel has nothing to average there
        self.burn_in, self.threshold, self.margin, self.least = burn_in, threshold, margin, least
        self.weights = weights

    def forward(self, batch: dict, step: int) -> dict[str, torch.Tensor]:
        """Named, weighted terms of the loss at ``step``, from 0.

        Args:
            batch: ``weak``, ``strong`` (B, 3, H, W), ``boxes``, ``labels`` (lists) of labelled images, and, used after
                ``burn_in``, ``unlabelled_weak``, ``unlabelled_strong`` (U, 3, H, W), the same cut in both views.
        """
        both = self.student.dense(torch.cat([batch["weak"], batch["strong"]]))
        known = losses(both, batch["boxes"] * 2, batch["labels"] * 2, spread_weight=self.weights["spread"])
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
        found = self.teacher.eval()(images)
        sure = found.scores > self.threshold
        split = [[part[i][sure[i]] for i in range(len(sure))] for part in (found.boxes, found.labels, found.spread)]
        return PseudoBoxes(*split)

    def unlabelled_terms(self, dense: Dense, pseudo: PseudoBoxes) -> dict[str, torch.Tensor]:
        """``classes``: focal; ``boxes``: L1 of the sides of which the teacher is surer, in strides."""
        assigned = assign(dense, pseudo.boxes)
        positive = assigned.box >= 0
        count = positive.sum().clamp(min=1)
        target = torch.zeros_like(dense.logits)
        image, place = positive.nonzero(as_tuple=True)
        if len(image) == 0:
            return {"classes": focal(dense.logits, target), "boxes": dense.sides.sum() * 0}
        owner = assigned.box[image, place]
        target[image, place, of_owners(pseudo.labels, image, owner)] = 1.0
        certainty = 1 - of_owners(pseudo.spread, image, owner)
        own = 1 - dense.spread[positive].detach().sigmoid()
        surer = (certainty > own + self.margin) & (certainty > self.least)
        distance = (dense.sides[positive] - assigned.sides[positive]).abs()
        return {"classes": focal(dense.logits, target) / count, "boxes": (distance * surer).sum() / count}

    def update(self, step: int) -> None:
        """Let the teacher follow, after the optimiser's ``step``; while burning in, and as it ends, as a copy."""
        if not self.is_burning_in(step + 1):
            self.teacher.update_parameters(self.student)
        else:
            self.teacher.module.load_state_dict(self.student.state_dict())
