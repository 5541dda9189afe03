"""Lesion detector without anchors: FCOS (Tian et al. 2019) whose distances to the box come with their uncertainty.

The published D2R-Net detects with a Faster R-CNN of Unbiased Teacher v2; this one needs no operators of torchvision or
detectron2, and the teacher compares uncertainties in the same way (Liu et al. 2022, spec 5.8).
"""

import math
from typing import NamedTuple, Optional

import torch
from monai.networks.blocks.feature_pyramid_network import FeaturePyramidNetwork
from torch import nn

from common.nn.backbones import image_encoder


class Dense(NamedTuple):
    """Outputs at all N positions of all levels.

    Attributes:
        logits: (B, N, classes).
        distances: (B, N, 4), from the position to the left, top, right, bottom of the box, in strides; positive.
        std_logits: (B, N, 4), logits of the distances' standard deviations, which are below one stride.
        centerness: (B, N), logit of the position being at the centre of its box.
        positions: (N, 2), x and y in pixels.
        strides: (N,), in pixels.
    """

    logits: torch.Tensor
    distances: torch.Tensor
    std_logits: torch.Tensor
    centerness: torch.Tensor
    positions: torch.Tensor
    strides: torch.Tensor


class Detections(NamedTuple):
    """Boxes by falling score; slots without a box have score 0.

    Attributes:
        boxes: (B, K, 4), xyxy, pixels, inside the image.
        scores: (B, K).
        labels: int64 (B, K), from 0.
        std: (B, K, 4), standard deviations of the distances in strides, 0 to 1.
    """

    boxes: torch.Tensor
    scores: torch.Tensor
    labels: torch.Tensor
    std: torch.Tensor


def conv_tower(width: int, layers: int) -> nn.Sequential:
    """Convolutions with group norm and ReLU."""
    parts: list[nn.Module] = []
    for _ in range(layers):
        parts += [nn.Conv2d(width, width, 3, padding=1), nn.GroupNorm(min(32, width // 4), width), nn.ReLU()]
    return nn.Sequential(*parts)


class DenseHead(nn.Module):
    """Class logits, distances with their deviation, and centerness at each position; one head for all levels."""

    def __init__(self, *, width: int, classes: int, layers: int, levels: int) -> None:
        super().__init__()
        self.of_classes, self.of_boxes = conv_tower(width, layers), conv_tower(width, layers)
        self.logits = nn.Conv2d(width, classes, 3, padding=1)
        self.boxes = nn.Conv2d(width, 9, 3, padding=1)  # distances, their deviations, centerness
        self.scales = nn.Parameter(torch.zeros(levels))
        for layer in (self.logits, self.boxes):
            nn.init.normal_(layer.weight, std=0.01)
            nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
        nn.init.constant_(self.logits.bias, -math.log(99.0))  # type: ignore[arg-type]  # focal loss: 1 % at first

    def forward(self, x: torch.Tensor, level: int) -> tuple[torch.Tensor, torch.Tensor]:
        """(B, width, h, w) to logits (B, h * w, classes) and (B, h * w, 9)."""
        logits = self.logits(self.of_classes(x)).flatten(2).transpose(1, 2)  # (B, h * w, classes)
        boxes = self.boxes(self.of_boxes(x)).flatten(2).transpose(1, 2)  # (B, h * w, 9)
        distances = (boxes[:, :, :4].float() + self.scales[level]).exp()
        return logits, torch.cat([distances, boxes[:, :, 4:]], dim=2)


class LesionDetector(nn.Module):
    """The detector.

    Args:
        classes: lesion labels; published: 22 of VinDr-CXR.
        backbone: image encoder with the interface of :mod:`common.nn.backbones`, of standardised colour images.
        depth, resnet_width, weights: of :class:`common.nn.backbones.ResNetFeatures`, there without ``backbone``.
        levels: maps of the ResNet that are used, of 0 (stride 4) to 3 (stride 32), in order.
        width, layers: channels of the pyramid and convolutions of each branch of the head.
        score_thresh: boxes below are left out.
        nms_thresh: of two boxes of one class with a larger IoU, the higher-scoring one stays.
        detections_per_img: at most.
    """

    def __init__(
        self,
        *,
        classes: int = 22,
        backbone: Optional[nn.Module] = None,
        depth: Optional[int] = None,
        resnet_width: Optional[int] = None,
        weights: Optional[str] = None,
        levels: tuple[int, ...] = (1, 2, 3),
        width: int = 256,
        layers: int = 4,
        score_thresh: float = 0.05,
        nms_thresh: float = 0.6,
        detections_per_img: int = 100,
    ) -> None:
        super().__init__()
        sizes = {"depth": depth, "width": resnet_width, "weights": weights}
        self.features = image_encoder(backbone, default_depth=50, in_channels=3, colour=True, **sizes)  # type: ignore[arg-type]
        self.levels = list(levels)
        channels: list[int] = self.features.channels  # type: ignore[assignment]
        self.pyramid = FeaturePyramidNetwork(2, [channels[level] for level in levels], width)
        self.head = DenseHead(width=width, classes=classes, layers=layers, levels=len(levels))
        self.classes, self.score_thresh, self.nms_thresh = classes, score_thresh, nms_thresh
        self.detections_per_img = detections_per_img

    def dense(self, image: torch.Tensor) -> Dense:
        """Outputs at all positions of ``image`` (B, 3, H, W), standardised with ImageNet's statistics."""
        maps = self.features(image)
        pyramid = self.pyramid({str(level): maps[level] for level in self.levels})
        logits = torch.jit.annotate(list[torch.Tensor], [])
        boxes = torch.jit.annotate(list[torch.Tensor], [])
        positions = torch.jit.annotate(list[torch.Tensor], [])
        strides = torch.jit.annotate(list[torch.Tensor], [])
        for index, level in enumerate(self.levels):
            x = pyramid[str(level)]
            outputs = self.head(x, index)
            logits.append(outputs[0])
            boxes.append(outputs[1])
            stride = float(4 * 2**level)
            down = (torch.arange(x.shape[2], device=image.device) + 0.5) * stride
            right = (torch.arange(x.shape[3], device=image.device) + 0.5) * stride
            size = [x.shape[2], x.shape[3]]
            grid = torch.stack([right.expand(size), down[:, None].expand(size)], dim=2).flatten(0, 1)  # (h * w, 2)
            positions.append(grid)
            strides.append(torch.full_like(grid[:, 0], stride))
        joined = torch.cat(boxes, dim=1).float()
        return Dense(
            torch.cat(logits, dim=1).float(), joined[:, :, :4], joined[:, :, 4:8], joined[:, :, 8],
            torch.cat(positions), torch.cat(strides),
        )  # fmt: skip

    def forward(self, image: torch.Tensor) -> Detections:
        """Detect lesions in ``image`` (B, 3, H, W)."""
        dense = self.dense(image)
        return self.postprocess(dense, image.shape[2], image.shape[3])

    @torch.jit.export
    def postprocess(self, dense: Dense, height: int, width: int) -> Detections:
        """Boxes after the score threshold and NMS."""
        scores = scores_of(dense)
        boxes = boxes_of(dense)
        limits = torch.tensor([width, height, width, height], device=boxes.device, dtype=boxes.dtype)
        boxes = torch.minimum(boxes.clamp(min=0.0), limits)
        count = min(4 * self.detections_per_img, scores.shape[1] * scores.shape[2])
        best, index = scores.flatten(1).topk(count, dim=1)  # (B, count), of N * classes
        batch = scores.shape[0]
        kept = boxes.new_zeros([batch, self.detections_per_img, 9])  # box, score, deviations
        labels = torch.zeros([batch, self.detections_per_img], dtype=torch.long, device=boxes.device)
        for image in range(batch):
            chosen = best[image] > self.score_thresh
            label = index[image][chosen] % self.classes
            position = torch.div(index[image][chosen], self.classes, rounding_mode="floor")
            std = dense.std_logits[image][position].sigmoid()
            candidates = torch.cat([boxes[image][position], best[image][chosen][:, None], std], dim=1)  # (M, 9)
            stay = nms(candidates[:, :4], label, iou_thresh=self.nms_thresh, limit=self.detections_per_img)
            kept[image, : stay.shape[0]] = candidates[stay]
            labels[image, : stay.shape[0]] = label[stay]
        return Detections(kept[:, :, :4], kept[:, :, 4], labels, kept[:, :, 5:])


def scores_of(dense: Dense) -> torch.Tensor:
    """Scores (B, N, classes): the root of class probability times centerness."""
    return (dense.logits.sigmoid() * dense.centerness.sigmoid()[:, :, None]).sqrt()


def boxes_of(dense: Dense) -> torch.Tensor:
    """Boxes (B, N, 4), xyxy, pixels."""
    pixels = dense.distances * dense.strides[:, None]
    return torch.cat([dense.positions - pixels[:, :, :2], dense.positions + pixels[:, :, 2:]], dim=2)


def nms(boxes: torch.Tensor, labels: torch.Tensor, *, iou_thresh: float, limit: int) -> torch.Tensor:
    """Non-maximum suppression within each class: indices of the boxes (N, 4) that stay, best first, ``limit`` at most.

    ``boxes`` come best first. A box goes where a higher-scoring one that stays overlaps it: decided for all at once,
    and again until nothing changes, with the result of going through them one by one (Zheng et al. 2020, Cluster-NMS).
    MONAI's ``non_max_suppression`` is a Python loop over the boxes, of arrays or tensors, which cannot be scripted.
    """
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    low, high = (
        torch.maximum(boxes[:, None, :2], boxes[None, :, :2]),
        torch.minimum(boxes[:, None, 2:], boxes[None, :, 2:]),
    )
    shared = (high - low).clamp(min=0.0).prod(dim=2)
    rivals = (shared > iou_thresh * (area[:, None] + area[None] - shared)) & (labels[:, None] == labels[None])
    wide = area > 0
    higher = rivals.triu(1)  # row scores higher than column
    alive, before = wide, torch.zeros_like(wide)
    while not torch.equal(alive, before):
        before = alive
        alive = wide & ~(higher & before[:, None]).any(0)
    return alive.nonzero()[:limit, 0]
