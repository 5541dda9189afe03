"""Which position of the detector is assigned to which box, and the losses (FCOS, Tian et al. 2019)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from monai.data.box_utils import box_pair_giou
from monai.losses.focal_loss import sigmoid_focal_loss

from .network import Dense, boxes_of

REACH = 4.0  # strides: a level takes boxes whose largest distance from the position is up to twice this many
RADIUS = 1.5  # strides around the centre of a box
GAMMA, ALPHA = 2.0, 0.25  # of the focal loss


class Assigned(NamedTuple):
    """For each position: the box it is assigned to.

    Attributes:
        box: int64 (B, N), index of the box; -1: none.
        distances: (B, N, 4), ltrb distances to it, in strides.
    """

    box: torch.Tensor
    distances: torch.Tensor


def assign(dense: Dense, boxes: list[torch.Tensor]) -> Assigned:
    """Assign each position the smallest of the boxes near whose centre it lies and whose size fits its level.

    Args:
        boxes: of each image, (M, 4), xyxy, pixels.
    """
    parts = [_assign_one(dense.positions, dense.strides, image_boxes.to(dense.positions)) for image_boxes in boxes]
    return Assigned(torch.stack([box for box, _ in parts]), torch.stack([distances for _, distances in parts]))


def _assign_one(
    positions: torch.Tensor, strides: torch.Tensor, boxes: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    if len(boxes) == 0:
        return torch.full_like(strides, -1, dtype=torch.long), positions.new_zeros(len(positions), 4)
    distances = torch.cat([positions[:, None] - boxes[None, :, :2], boxes[None, :, 2:] - positions[:, None]], dim=2)
    scaled = distances / strides[:, None, None]  # (N, M, 4)
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    near = ((positions[:, None] - centre[None]).abs() <= RADIUS * strides[:, None, None]).all(2)
    longest = scaled.amax(2)
    lowest, highest = strides == strides.min(), strides == strides.max()
    fits = ((longest > REACH) | lowest[:, None]) & ((longest <= 2 * REACH) | highest[:, None])
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1).expand(len(positions), -1)
    cost = torch.where((distances > 0).all(2) & near & fits, area, torch.inf)
    smallest, index = cost.min(1)
    nearest = scaled.gather(1, index[:, None, None].expand(-1, 1, 4))[:, 0]
    return index.masked_fill(smallest.isinf(), -1), nearest


class Targets(NamedTuple):
    """What the positions of a batch learn from boxes.

    Attributes:
        positive: (B, N) bool, positions with a box. total: of them, one at least.
        image, box: (K,), each one's image, and the index of its box there.
        distances: (K, 4), in strides, to that box's sides.
        classes: (B, N, C), 1 at its class.
    """

    positive: torch.Tensor
    total: torch.Tensor
    image: torch.Tensor
    box: torch.Tensor
    distances: torch.Tensor
    classes: torch.Tensor


def targets_of(dense: Dense, boxes: list[torch.Tensor], labels: list[torch.Tensor]) -> Targets:
    """Targets of ``dense`` (B, N, ...) from ``boxes`` (M, 4), xyxy in pixels, and ``labels`` (M,) of each image."""
    assigned = assign(dense, boxes)
    positive = assigned.box >= 0
    image, position = positive.nonzero(as_tuple=True)
    box, classes = assigned.box[positive], torch.zeros_like(dense.logits)
    if len(image):
        classes[image, position, gather_assigned(labels, image, box)] = 1.0
    return Targets(positive, positive.sum().clamp(min=1), image, box, assigned.distances[positive], classes)


def losses(dense: Dense, boxes: list[torch.Tensor], labels: list[torch.Tensor], *, std_weight: float) -> dict:
    """Named terms: ``class`` (focal), ``box`` (1 - GIoU, plus the likelihood of the distances), ``centerness``.

    Each is a sum over positions, divided by the number of positions with a box.

    Args:
        std_weight: of the distances' negative log-likelihood; published: 0.05.
    """
    learned = targets_of(dense, boxes, labels)
    positive, count, targets = learned.positive, learned.total, learned.distances
    if len(learned.image) == 0:
        nothing = dense.distances.sum() * 0 + dense.std_logits.sum() * 0 + dense.centerness.sum() * 0
        return {"class": focal(dense.logits, learned.classes), "box": nothing, "centerness": nothing}
    distances = dense.distances[positive]
    target_centerness = centerness(targets)
    giou = _giou(dense, positive, targets)
    likelihood = distance_nll(distances, dense.std_logits[positive], targets, giou.detach().clamp(min=0))
    box = ((1 - giou) * target_centerness).sum() / target_centerness.sum().clamp(
        min=1e-6
    ) + std_weight * likelihood / count
    centre = F.binary_cross_entropy_with_logits(dense.centerness[positive], target_centerness, reduction="sum") / count
    return {"class": focal(dense.logits, learned.classes) / count, "box": box, "centerness": centre}


def gather_assigned(values: list[torch.Tensor], image: torch.Tensor, owner: torch.Tensor) -> torch.Tensor:
    """Rows (K, ...) of ``values``, each (M, ...): of ``values[image[k]]`` that with index ``owner[k]``, both (K,)."""
    ends = torch.tensor([len(part) for part in values], device=image.device).cumsum(0)
    starts = torch.cat([ends.new_zeros(1), ends[:-1]])
    return torch.cat(values).to(image.device)[starts[image] + owner]


def _giou(dense: Dense, positive: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    positions = dense.positions.expand(len(positive), -1, -1)[positive]
    strides = dense.strides.expand(len(positive), -1)[positive][:, None]
    true = torch.cat([positions - targets[:, :2] * strides, positions + targets[:, 2:] * strides], dim=1)
    return box_pair_giou(boxes_of(dense)[positive], true)  # type: ignore[return-value]


def focal(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Sum of the sigmoid focal loss (Lin et al. 2017); ``target`` 0 or 1."""
    return sigmoid_focal_loss(logits, target, gamma=GAMMA, alpha=ALPHA).sum()


def centerness(distances: torch.Tensor) -> torch.Tensor:
    """1 at the centre of a box, 0 on its border; ``distances`` (..., 4)."""
    across, along = distances[..., 0::2], distances[..., 1::2]
    return (across.amin(-1) / across.amax(-1) * along.amin(-1) / along.amax(-1)).clamp(min=0).sqrt()


def distance_nll(
    distances: torch.Tensor, std_logits: torch.Tensor, target: torch.Tensor, weight: torch.Tensor
) -> torch.Tensor:
    """Negative log-likelihood of the four distances under normal distributions, weighted by box, summed.

    Unbiased Teacher v2 with its constant: 2 log(2 pi) for a box. ``std_logits`` is (M, 4), ``weight`` (M,).
    """
    std = std_logits.sigmoid()
    each = (target - distances) ** 2 / (2 * std**2) + std.log()
    return ((each.sum(1) + 2 * math.log(2 * math.pi)) * weight).sum()
