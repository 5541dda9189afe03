"""HFCN: benign or malignant from a nodule's image, by the whole feature map and by crops of it.

"A Hybrid Feature Cropping Network" (IEEE Access 8:64064-64074, 2020) fixes the two branches, the upsampled crops of the
feature map (five, about three quarters of its side), their softmax average and the weighted sum of both branches.
Backbone, cut, sampling and all sizes here are our completion, and so is a third branch that reads the nodule's mask.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import NamedTuple, Optional

import torch
import torch.nn.functional as F
from torch import nn

from common.nn.backbones import image_encoder

GRIDS = {1: [4], 5: [0, 2, 4, 6, 8], 9: [0, 1, 2, 3, 4, 5, 6, 7, 8]}  # cells of a 3 x 3 grid, row by row


class Branches(NamedTuple):
    """Log-probabilities (benign, malignant) of the branches, and where the crops lie."""

    whole: torch.Tensor  # (B, 2), the global branch
    crops: torch.Tensor  # (B, N, 2)
    windows: torch.Tensor  # int64 (B, N, 2), top and left of each crop on the feature map
    activation: torch.Tensor  # (B, h, w), class-activation map of the global branch: malignant minus benign
    mask: torch.Tensor  # (B, 2), the mask branch; zeros where it is not asked
    asks_mask: torch.Tensor  # bool (B,): there is a mask, and a mask branch to read it


class Classifier(nn.Module):
    """The last stage of a ResNet, global average pooling, dropout and a linear layer."""

    def __init__(self, stage: nn.Module, *, channels: int, dropout: float) -> None:
        super().__init__()
        self.stage = stage
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(channels, 2)

    def forward(self, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Logits (B, 2) and the map (B, C, h, w) that they are the mean of."""
        maps = self.stage(features)
        return self.linear(self.dropout(maps.mean(dim=(2, 3)))), maps


class MaskBranch(nn.Module):
    """A linear classifier of means and deviations of features inside a mask, and of means outside it.

    Args:
        channels: of the maps at strides 4, 8 and 16.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.linear = nn.Linear(3 * sum(channels), 1).requires_grad_(False)  # :class:`hfcn.mask_branch.FitMaskBranch`
        self.register_buffer("fitted", torch.tensor(False))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Log-probabilities (B, 2) of ``features`` (B, F) of :func:`inside_and_outside`."""
        logit = (features.float() * self.linear.weight).sum(1, keepdim=True) + self.linear.bias  # in float32
        return torch.cat([F.logsigmoid(-logit), F.logsigmoid(logit)], dim=1)


def inside_and_outside(maps: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean and deviation of ``maps`` (B, C, h, w) inside ``mask`` (B, 1, H, W), and mean outside: (B, 3 * C)."""
    inside = F.adaptive_avg_pool2d(mask, [maps.shape[2], maps.shape[3]])  # share of each position
    outside = 1.0 - inside
    inside = inside / inside.sum(dim=(2, 3), keepdim=True).clamp(min=1e-3)
    outside = outside / outside.sum(dim=(2, 3), keepdim=True).clamp(min=1e-3)
    mean = (maps * inside).sum(dim=(2, 3))
    variance = ((maps - mean[:, :, None, None]).square() * inside).sum(dim=(2, 3))
    return torch.cat([mean, variance.sqrt(), (maps * outside).sum(dim=(2, 3))], dim=1)


class HFCN(nn.Module):
    """Global branch and feature-cropping branch on one trunk, and a branch that reads the nodule's mask.

    Args:
        backbone: image encoder with the interface of :mod:`common.nn.backbones`, of standardised grey images.
        depth, width, weights: of :class:`common.nn.backbones.ResNetFeatures`, there without ``backbone``.
        crops: N; at test 1 (the centre), 5 (corners and centre) or 9 (a grid).
        ratio: side of a crop as a share of the feature map's.
        random_crops: in training the windows lie anywhere; else as at test.
        share_classifier: both branches use one classifier; the paper's figure draws two.
        global_weight: w of ``P = w * P_global + (1 - w) * P_crops``.
        mask_weight: share of the mask branch in P, where there is a mask; published: 0, without that branch.
        train_trunk: False: the trunk keeps its pretrained weights, which the mask branch needs.

    Raises:
        ValueError: ``crops``, ``ratio`` or a weight out of range; a mask branch on a trunk that is trained.
    """

    def __init__(
        self,
        *,
        backbone: Optional[nn.Module] = None,
        depth: Optional[int] = None,
        width: Optional[int] = None,
        weights: Optional[str] = None,
        crops: int = 5,
        ratio: float = 0.75,
        random_crops: bool = True,
        share_classifier: bool = False,
        global_weight: float = 0.5,
        mask_weight: float = 0.0,
        train_trunk: bool = True,
        dropout: float = 0.5,
    ) -> None:
        super().__init__()
        if crops not in GRIDS:
            raise ValueError(f"crops: {crops} is none of {sorted(GRIDS)}")
        if not 0 < ratio <= 1 or not 0 <= global_weight <= 1:
            raise ValueError(f"ratio: {ratio} and global_weight: {global_weight} must lie in (0, 1] and [0, 1]")
        if not 0 <= mask_weight < 1 or (mask_weight > 0 and train_trunk):
            raise ValueError(
                f"mask_weight: {mask_weight} must lie in [0, 1), and be 0 where train_trunk is true: the branch is "
                "fitted to features that stay"
            )
        sizes = {"depth": depth, "width": width, "weights": weights}
        encoder = image_encoder(backbone, default_depth=18, in_channels=1, **sizes)  # type: ignore[arg-type]
        *trunk, last = encoder.stages()  # type: ignore[operator]
        self.trunk = nn.Sequential(*trunk).requires_grad_(train_trunk)
        self.train_trunk, self.mask_weight = train_trunk, mask_weight
        self.mask_branch = MaskBranch(encoder.channels[:3]) if mask_weight > 0 else None  # type: ignore[index]
        self.whole = Classifier(last, channels=encoder.channels[3], dropout=dropout)  # type: ignore[index, arg-type]
        self.local = self.whole if share_classifier else copy.deepcopy(self.whole)
        self.mean, self.std = 0.449, 0.226  # ImageNet's, of grey values: the means over its three channels
        self.ratio, self.random_crops, self.global_weight = ratio, random_crops, global_weight
        share = Fraction(ratio).limit_denominator(10_000)  # whole numbers, in which exporters keep a size free
        self.numerator, self.denominator = share.numerator, share.denominator
        positions = torch.tensor([[position // 3, position % 3] for position in GRIDS[crops]])
        self.register_buffer("corners", positions / 2.0, persistent=False)  # (N, 2) in {0, 0.5, 1}
        self.register_buffer("threshold", torch.tensor(0.5))  # chosen on validation, saved with the weights

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Fused log-probabilities (B, 2) of ``image``, float (B, 1 or 2, H, W) in [0, 1].

        Channel 0 is the image, channel 1 the nodule's mask; without it, or where it is 1 (or 0) everywhere, the mask
        branch is not asked.
        """
        return self.fuse(self.branches(image))

    @torch.jit.export
    def branches(self, image: torch.Tensor) -> Branches:
        """What all branches say of ``image`` (B, 1 or 2, H, W), as of :meth:`forward`."""
        pyramid = self.maps(image)
        features = pyramid[-1]
        logits, maps = self.whole(features)
        windows = self.choose_windows(features)
        crops = self.crop(features, windows)  # (B*N, C, h, w)
        local = self.local(crops)[0].unflatten(0, [-1, windows.shape[1]])  # (B, N, 2)
        difference = self.whole.linear.weight[1] - self.whole.linear.weight[0]
        activation = (maps * difference[None, :, None, None]).sum(1)  # (B, h, w)
        whole = F.log_softmax(logits.float(), dim=1)
        known = has_mask(image)
        mask = torch.zeros_like(whole)
        if self.mask_branch is not None:
            known = known & self.mask_branch.fitted
            if image.shape[1] > 1:
                mask = self.mask_branch(self.pool(pyramid, image[:, 1:2]))
        return Branches(whole, F.log_softmax(local.float(), dim=2), windows, activation, mask, known)

    def maps(self, image: torch.Tensor) -> list[torch.Tensor]:
        """The trunk's maps (B, C, h, w) at strides 4, 8 and 16, of ``image`` (B, 1 or 2, H, W)."""
        maps = [(image[:, :1] - self.mean) / self.std]
        for stage in self.trunk:
            maps.append(stage(maps[-1]))
        return maps[-3:]

    def pool(self, maps: list[torch.Tensor], mask: torch.Tensor) -> torch.Tensor:
        """What the mask branch reads, (B, F), of the trunk's ``maps`` (B, C, h, w) under ``mask`` (B, 1, H, W)."""
        return torch.cat([inside_and_outside(level, mask) for level in maps], dim=1)

    @torch.jit.unused
    def mask_features(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features (B, F) of ``image`` (B, 2, H, W) that the mask branch reads, and which images have a mask, (B,)."""
        return self.pool(self.eval().maps(image), image[:, 1:2]), has_mask(image)

    @torch.jit.unused
    def image_features(self) -> tuple[nn.Module, Callable[[torch.Tensor], object]]:
        """As :mod:`common.engine.familiarity` has it."""
        return self.trunk[-1], self.maps

    def train(self, mode: bool = True) -> HFCN:
        """As of any module; a trunk that is not trained keeps its statistics."""
        super().train(mode)
        if not self.train_trunk:
            self.trunk.eval()
        return self

    def fuse(self, branches: Branches) -> torch.Tensor:
        """``log(m * P_mask + (1 - m) * (w * P_global + (1 - w) * P_crops))``, (B, 2); m is 0 without a mask."""
        published = self.fuse_published(branches)
        if self.mask_weight == 0.0:
            return published
        share = self.mask_weight * branches.asks_mask.to(published.dtype)[:, None]  # (B, 1)
        return torch.logaddexp(branches.mask + share.log(), published + torch.log1p(-share))

    def fuse_published(self, branches: Branches) -> torch.Tensor:
        """``log(w * P_global + (1 - w) * P_crops)``, (B, 2)."""
        if self.global_weight == 1.0:
            return branches.whole
        crops = average(branches.crops) + math.log(1.0 - self.global_weight)
        if self.global_weight == 0.0:
            return crops
        return torch.logaddexp(branches.whole + math.log(self.global_weight), crops)

    def choose_windows(self, features: torch.Tensor) -> torch.Tensor:
        """Top and left corners, int64 (B, N, 2): the grid's, or random ones in training."""
        batch, height, width = features.shape[0], features.shape[2], features.shape[3]
        count = self.corners.shape[0]
        room = torch.tensor([height - self.side(height), width - self.side(width)], device=features.device)
        if self.training and self.random_crops:
            positions = torch.rand(batch, count, 2, device=features.device)
            return (positions * (room + 1)).floor().long().minimum(room)
        return (self.corners * room).round().long()[None].expand(batch, -1, -1)

    def side(self, length: int) -> int:
        """Side of a crop of a map's side ``length``, ``length * ratio`` rounded: at least one position."""
        return max(1, (2 * length * self.numerator + self.denominator) // (2 * self.denominator))

    def crop(self, features: torch.Tensor, windows: torch.Tensor) -> torch.Tensor:
        """Cut ``windows`` (B, N, 2) out of ``features`` (B, C, h, w) in one gather, upsampled to (B*N, C, h, w)."""
        height, width = features.shape[2], features.shape[3]
        rows = windows[:, :, 0, None] + torch.arange(self.side(height), device=features.device)  # (B, N, k)
        columns = windows[:, :, 1, None] + torch.arange(self.side(width), device=features.device)  # (B, N, k)
        image = torch.arange(features.shape[0], device=features.device)[:, None, None, None]
        cut = features.permute(0, 2, 3, 1)[image, rows[:, :, :, None], columns[:, :, None, :]]  # (B, N, k, k, C)
        cut = cut.flatten(0, 1).permute(0, 3, 1, 2)  # (B * N, C, h, w)
        return F.interpolate(cut, size=[height, width], mode="bilinear", align_corners=False)


class BranchesAndFusion(nn.Module):
    """Branches and fused log-probabilities (B, 2) in one call, which data parallel can wrap."""

    def __init__(self, network: HFCN) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: torch.Tensor) -> tuple[Branches, torch.Tensor]:
        """``image`` (B, 1 or 2, H, W) to its :class:`Branches` and (B, 2)."""
        branches = self.network.branches(image)
        return branches, self.network.fuse(branches)


def has_mask(image: torch.Tensor) -> torch.Tensor:
    """Which of ``image`` (B, C, H, W) have a mask in channel 1 with something inside and something outside, (B,)."""
    if image.shape[1] < 2:
        return torch.zeros(image.shape[0], dtype=torch.bool, device=image.device)
    mask = image[:, 1].flatten(1)  # (B, H * W)
    return (mask.amax(dim=1) > 0.5) & (mask.amin(dim=1) < 0.5)


def average(log_probabilities: torch.Tensor) -> torch.Tensor:
    """Logarithm of the mean probability over the crops, (B, N, 2) to (B, 2)."""
    return torch.logsumexp(log_probabilities, dim=1) - math.log(log_probabilities.shape[1])
