"""Which place of the detector answers for which box, and the losses of its answers (FCOS, Tian et al. 2019)."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from monai.data.box_utils import box_pair_giou

from .network import Dense, boxes_of

REACH = 4.0  # strides: a level answers for boxes whose longest side from the place is up to twice this many
RADIUS = 1.5  # strides around the centre of a box
GAMMA, ALPHA = 2.0, 0.25  # of the focal loss


class Assigned(NamedTuple):
    """For each place: the box it answers for.

    Attributes:
        box: int64 (B, N), index of the box; -1: none.
        sides: (B, N, 4), distances to its sides in strides.
    """

    box: torch.Tensor
    sides: torch.Tensor


def assign(dense: Dense, boxes: list[torch.Tensor]) -> Assigned:
    """Assign each place the smallest of the boxes near whose centre it lies and whose size fits its level.

    Args:
        boxes: of each image, (M, 4), x1, y1, x2, y2 in pixels.
    """
    found = [_assign_one(dense.places, dense.strides, own.to(dense.places)) for own in boxes]
    return Assigned(torch.stack([box for box, _ in found]), torch.stack([sides for _, sides in found]))


def _assign_one(places: torch.Tensor, strides: torch.Tensor, boxes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    if len(boxes) == 0:
        return torch.full_like(strides, -1, dtype=torch.long), places.new_zeros(len(places), 4)
    sides = torch.cat([places[:, None] - boxes[None, :, :2], boxes[None, :, 2:] - places[:, None]], dim=2)
    scaled = sides / strides[:, None, None]  # (N, M, 4)
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    near = ((places[:, None] - centre[None]).abs() <= RADIUS * strides[:, None, None]).all(2)
    longest = scaled.amax(2)
    lowest, highest = strides == strides.min(), strides == strides.max()
    fits = ((longest > REACH) | lowest[:, None]) & ((longest <= 2 * REACH) | highest[:, None])
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1).expand(len(places), -1)
    cost = torch.where((sides > 0).all(2) & near & fits, area, torch.inf)
    smallest, index = cost.min(1)
    own = scaled.gather(1, index[:, None, None].expand(-1, 1, 4))[:, 0]
    return index.masked_fill(smallest.isinf(), -1), own


def losses(dense: Dense, boxes: list[torch.Tensor], labels: list[torch.Tensor], *, spread_weight: float) -> dict:
    """Named terms: ``class`` (focal), ``box`` (1 - GIoU, plus the likelihood of the sides), ``centre``.

    Each is a sum over places, divided by the places that answer for a box.

    Args:
        spread_weight: of the sides' negative log-likelihood; published: 0.05.
    """
    assigned = assign(dense, boxes)
    positive = assigned.box >= 0
    count = positive.sum().clamp(min=1)
    target = torch.zeros_like(dense.logits)
    image, place = positive.nonzero(as_tuple=True)
    if len(image) == 0:
        nothing = dense.sides.sum() * 0 + dense.spread.sum() * 0 + dense.centre.sum() * 0
        return {"class": focal(dense.logits, target), "box": nothing, "centre": nothing}
    owner = assigned.box[image, place]
    target[image, place, of_owners(labels, image, owner)] = 1.0
    wanted, sides = assigned.sides[positive], dense.sides[positive]
    middle = centredness(wanted)
    giou = _giou(dense, positive, wanted)
    likelihood = side_likelihood(sides, dense.spread[positive], wanted, giou.detach().clamp(min=0))
    box = ((1 - giou) * middle).sum() / middle.sum().clamp(min=1e-6) + spread_weight * likelihood / count
    centre = F.binary_cross_entropy_with_logits(dense.centre[positive], middle, reduction="sum") / count
    return {"class": focal(dense.logits, target) / count, "box": box, "centre": centre}


def of_owners(values: list[torch.Tensor], image: torch.Tensor, owner: torch.Tensor) -> torch.Tensor:
    """The row of ``values[image[k]]`` with index ``owner[k]``, for each k."""
    ends = torch.tensor([len(own) for own in values], device=image.device).cumsum(0)
    starts = torch.cat([ends.new_zeros(1), ends[:-1]])
    return torch.cat(values).to(image.device)[starts[image] + owner]


def _giou(dense: Dense, positive: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    places = dense.places.expand(len(positive), -1, -1)[positive]
    strides = dense.strides.expand(len(positive), -1)[positive][:, None]
    true = torch.cat([places - wanted[:, :2] * strides, places + wanted[:, 2:] * strides], dim=1)
    return box_pair_giou(boxes_of(dense)[positive], true)  # type: ignore[return-value]


def focal(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """Sum of the sigmoid focal loss (Lin et al. 2017); ``target`` 0 or 1."""
    cross_entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    miss = torch.where(target > 0, 1 - logits.sigmoid(), logits.sigmoid())
    return (torch.where(target > 0, ALPHA, 1 - ALPHA) * miss**GAMMA * cross_entropy).sum()


def centredness(sides: torch.Tensor) -> torch.Tensor:
    """1 in the middle of a box, 0 on its border; ``sides`` (..., 4)."""
    across, along = sides[..., 0::2], sides[..., 1::2]
    return (across.amin(-1) / across.amax(-1) * along.amin(-1) / along.amax(-1)).clamp(min=0).sqrt()


def side_likelihood(
    sides: torch.Tensor, spread: torch.Tensor, target: torch.Tensor, weight: torch.Tensor
) -> torch.Tensor:
    """Negative log-likelihood of the four sides under normal distributions, weighted by box, summed.

    Unbiased Teacher v2 with its constant: 2 log(2 pi) for a box. ``spread`` (M, 4) are logits, ``weight`` (M,).
    """
    deviation = spread.sigmoid()
    each = (target - sides) ** 2 / (2 * deviation**2) + deviation.log()
    return ((each.sum(1) + 2 * math.log(2 * math.pi)) * weight).sum()
