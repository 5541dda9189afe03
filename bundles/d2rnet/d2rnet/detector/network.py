"""Lesion detector without anchors: FCOS (Tian et al. 2019) whose box sides come with their uncertainty.

The published D2R-Net detects with a Faster R-CNN of Unbiased Teacher v2; this one needs no operators of torchvision or
detectron2, and the teacher compares uncertainties in the same way (Liu et al. 2022, spec 5.8).
"""

import math
from typing import NamedTuple, Optional

import torch
from monai.networks.blocks.feature_pyramid_network import FeaturePyramidNetwork
from torch import nn

from common.nn.backbones import ResNetFeatures


class Dense(NamedTuple):
    """What the network says at each of N places of all levels.

    Attributes:
        logits: (B, N, classes).
        sides: (B, N, 4), distances to the left, top, right, bottom of the box, in strides of the level; positive.
        spread: (B, N, 4), logits of the sides' standard deviations, which are below one stride.
        centre: (B, N), logit of the place being in the middle of its box.
        places: (N, 2), x and y in pixels.
        strides: (N,), in pixels.
    """

    logits: torch.Tensor
    sides: torch.Tensor
    spread: torch.Tensor
    centre: torch.Tensor
    places: torch.Tensor
    strides: torch.Tensor


class Detections(NamedTuple):
    """Boxes, the surest first; places without a box have score 0.

    Attributes:
        boxes: (B, K, 4), x1, y1, x2, y2 in pixels, inside the image.
        scores: (B, K).
        labels: int64 (B, K), from 0.
        spread: (B, K, 4), standard deviations of the sides in strides, 0 to 1.
    """

    boxes: torch.Tensor
    scores: torch.Tensor
    labels: torch.Tensor
    spread: torch.Tensor


def tower(width: int, layers: int) -> nn.Sequential:
    """Convolutions with group norm and ReLU."""
    parts: list[nn.Module] = []
    for _ in range(layers):
        parts += [nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(min(32, width // 4), width), nn.ReLU()]
    return nn.Sequential(*parts)


class DenseHead(nn.Module):
    """Classes, box sides with spread, and centredness at each place; one head for all levels."""

    def __init__(self, *, width: int, classes: int, layers: int, levels: int) -> None:
        super().__init__()
        self.of_classes, self.of_boxes = tower(width, layers), tower(width, layers)
        self.logits = nn.Conv2d(width, classes, 3, padding=1)
        self.boxes = nn.Conv2d(width, 9, 3, padding=1)  # sides, spreads, centre
        self.scales = nn.Parameter(torch.zeros(levels))
        for layer in (self.logits, self.boxes):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        nn.init.constant_(self.logits.bias, -math.log(99.0))  # type: ignore[arg-type]  # focal loss: 1 % at first

    def forward(self, x: torch.Tensor, level: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, width, h, w) to logits (B, h * w, classes) and (B, h * w, 9)."""
        logits = self.logits(self.of_classes(x)).flatten(2).transpose(1, 2)
        boxes = self.boxes(self.of_boxes(x)).flatten(2).transpose(1, 2)
        sides = (boxes[:, :, :4].float() + self.scales[level]).exp()
        return logits, torch.cat([sides, boxes[:, :, 4:]], dim=2)


class LesionDetector(nn.Module):
    """The detector.

    Args:
        classes: lesion labels; published: 22 of VinDr-CXR.
        depth, resnet_width, weights: of :class:`common.nn.backbones.ResNetFeatures`.
        levels: maps of the ResNet that are used, of 0 (stride 4) to 3 (stride 32), in order.
        width, layers: channels of the pyramid and convolutions of each branch of the head.
        score: boxes below are left out.
        overlap: of two boxes of one class that overlap more, the surer stays.
        most: boxes of an image at most.
    """

    def __init__(
        self,
        *,
        classes: int = 22,
        depth: int = 50,
        resnet_width: int = 64,
        weights: Optional[str] = None,
        levels: tuple[int, ...] = (1, 2, 3),
        width: int = 256,
        layers: int = 4,
        score: float = 0.05,
        overlap: float = 0.6,
        most: int = 100,
    ) -> None:
        super().__init__()
        self.features = ResNetFeatures(depth=depth, in_channels=3, weights=weights, colour=True, width=resnet_width)
        self.levels = list(levels)
        self.pyramid = FeaturePyramidNetwork(2, [self.features.channels[level] for level in levels], width)
        self.head = DenseHead(width=width, classes=classes, layers=layers, levels=len(levels))
        self.classes, self.score, self.overlap, self.most = classes, score, overlap, most

    def dense(self, image: torch.Tensor) -> Dense:
        """All places of ``image`` (B, 3, H, W), standardised with ImageNet's statistics."""
        maps = self.features(image)
        pyramid = self.pyramid({str(level): maps[level] for level in self.levels})
        logits = torch.jit.annotate(list[torch.Tensor], [])
        boxes = torch.jit.annotate(list[torch.Tensor], [])
        places = torch.jit.annotate(list[torch.Tensor], [])
        strides = torch.jit.annotate(list[torch.Tensor], [])
        for index, level in enumerate(self.levels):
            x = pyramid[str(level)]
            found = self.head(x, index)
            logits.append(found[0])
            boxes.append(found[1])
            stride = float(4 * 2**level)
            down = (torch.arange(x.shape[2], device=image.device) + 0.5) * stride
            right = (torch.arange(x.shape[3], device=image.device) + 0.5) * stride
            size = [x.shape[2], x.shape[3]]
            place = torch.stack([right.expand(size), down[:, None].expand(size)], dim=2).flatten(0, 1)
            places.append(place)
            strides.append(torch.full_like(place[:, 0], stride))
        joined = torch.cat(boxes, dim=1).float()
        return Dense(
            torch.cat(logits, dim=1).float(), joined[:, :, :4], joined[:, :, 4:8], joined[:, :, 8],
            torch.cat(places), torch.cat(strides),
        )  # fmt: skip

    def forward(self, image: torch.Tensor) -> Detections:
        """Detect lesions in ``image`` (B, 3, H, W)."""
        dense = self.dense(image)
        return self.decide(dense, image.shape[2], image.shape[3])

    @torch.jit.export
    def decide(self, dense: Dense, height: int, width: int) -> Detections:
        """The boxes that stay of all places: score is the root of class probability times centredness."""
        scores = (dense.logits.sigmoid() * dense.centre.sigmoid()[:, :, None]).sqrt()
        boxes = boxes_of(dense)
        limits = torch.tensor([width, height, width, height], device=boxes.device, dtype=boxes.dtype)
        boxes = torch.minimum(boxes.clamp(min=0.0), limits)
        count = min(4 * self.most, scores.shape[1] * scores.shape[2])
        best, index = scores.flatten(1).topk(count, dim=1)
        batch = scores.shape[0]
        found = boxes.new_zeros([batch, self.most, 9])  # box, score, spread
        labels = torch.zeros([batch, self.most], dtype=torch.long, device=boxes.device)
        for image in range(batch):
            chosen = best[image] > self.score
            label = index[image][chosen] % self.classes
            place = torch.div(index[image][chosen], self.classes, rounding_mode="floor")
            own = torch.cat(
                [boxes[image][place], best[image][chosen][:, None], dense.spread[image][place].sigmoid()], 1
            )
            kept = suppress(own[:, :4], label, overlap=self.overlap, most=self.most)
            found[image, : kept.shape[0]] = own[kept]
            labels[image, : kept.shape[0]] = label[kept]
        return Detections(found[:, :, :4], found[:, :, 4], labels, found[:, :, 5:])


def boxes_of(dense: Dense) -> torch.Tensor:
    """Boxes (B, N, 4), x1, y1, x2, y2 in pixels."""
    sides = dense.sides * dense.strides[:, None]
    return torch.cat([dense.places - sides[:, :, :2], dense.places + sides[:, :, 2:]], dim=2)


def suppress(boxes: torch.Tensor, labels: torch.Tensor, *, overlap: float, most: int) -> torch.Tensor:
    """Non-maximum suppression within each class: indices of the boxes (N, 4) that stay, best first.

    ``boxes`` come best first. A box goes where a surer one that stays overlaps it: found for all at once, and again
    until nothing changes, which gives what going through them one by one gives (Zheng et al. 2020, Cluster-NMS).
    """
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    low, high = (
        torch.maximum(boxes[:, None, :2], boxes[None, :, :2]),
        torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:]),
    )
    shared = (high - low).clamp(min=0.0).prod(dim=2)
    rivals = (shared > overlap * (area[:, None] + area[None] - shared)) & (labels[:, None] == labels[None])
    wide = area > 0
    surer = rivals.triu(1)
    alive, before = wide, torch.zeros_like(wide)
    while not torch.equal(alive, before):
        before = alive
        alive = wide & ~(surer & before[:, None]).any(0)
    return alive.nonzero()[:most, 0]
