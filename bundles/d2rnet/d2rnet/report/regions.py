"""Vectors of lesion regions: LERA and a small convolutional network (spec 5.2, 5.3)."""

import math

import torch
import torch.nn.functional as F
from einops.layers.torch import Rearrange
from torch import nn

from common.nn.attention import matmul_in_float32
from common.nn.published import accept_former_names


def conv_norm(inside: int, outside: int, size: int, *, relu: bool) -> nn.Sequential:
    """Convolution that keeps the size, batch norm, ReLU."""
    parts = [nn.Conv2d(inside, outside, size, padding=size // 2), nn.BatchNorm2d(outside)]
    return nn.Sequential(*parts, *([nn.ReLU()] if relu else []))


class LocalGlobalAttention(nn.Module):
    """Patches of ``patch`` x ``patch`` pixels, weighted by their likeness to a learned prompt."""

    def __init__(self, channels: int, *, patch: int) -> None:
        super().__init__()
        self.patch = patch
        self.to_patches = Rearrange("n c (h p) (w q) -> n h w (c p q)", p=patch, q=patch)
        self.inner, self.norm = nn.Linear(patch * patch, channels // 2), nn.LayerNorm(channels // 2)
        self.outer, self.out = nn.Linear(channels // 2, channels), nn.Conv2d(channels, channels, 1)
        self.prompt, self.transform = nn.Parameter(torch.randn(channels)), nn.Parameter(torch.eye(channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W), sides multiples of ``patch``, to the same."""
        height, width = x.shape[2:]
        # Published: the C p q values of a patch, channels first, are cut into p q runs of C and averaged.
        runs = self.to_patches(x).unflatten(3, [self.patch * self.patch, -1]).mean(4)  # (N, h, w, p * q)
        results = self.outer(self.norm(self.inner(runs)))  # (N, h, w, C)
        results = results * results.float().softmax(dim=3)
        alike = matmul_in_float32(F.normalize(results.float(), dim=3), F.normalize(self.prompt, dim=0))
        results = (results * alike.clamp(0, 1)[..., None]) @ self.transform
        results = results.permute(0, 3, 1, 2)  # (N, C, h, w)
        whole = F.interpolate(results, size=[height, width], mode="bilinear", align_corners=False)  # (N, C, H, W)
        return self.out(whole)


class LERA(nn.Module):
    """Lesion region attention: parallelised patch-aware attention of HCF-Net (Xu et al. 2024) in its place.

    The published file is missing; call and size are those of that block (spec 5.3). With 3 channels, as published, its
    two patch branches normalise a single value and do not depend on the input: ``channels`` is wider by default.
    """

    recomputable = True

    def __init__(self, channels: int = 16, *, inside: int = 3, dropout: float = 0.1) -> None:
        super().__init__()
        self.skip = conv_norm(inside, channels, 1, relu=False)
        self.chain = nn.ModuleList(conv_norm(n, channels, 3, relu=True) for n in (inside, channels, channels))
        self.patches = nn.ModuleList(LocalGlobalAttention(channels, patch=size) for size in (2, 4))
        size = int(abs((math.log2(channels) + 1) / 2)) // 2 * 2 + 1
        self.channel = nn.Conv1d(1, 1, size, padding=size // 2, bias=False)  # efficient channel attention
        self.spatial = nn.Conv2d(2, 1, 7, padding=3)
        self.dropout, self.norm = nn.Dropout2d(dropout), nn.BatchNorm2d(channels)
        accept_former_names(self, {"place.": "spatial."})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, inside, H, W), sides multiples of 4, to (N, channels, H, W)."""
        skip = self.skip(x)
        total = skip
        for branch in self.patches:
            total = total + branch(skip)
        for layer in self.chain:
            x = layer(x)
            total = total + x
        gates = self.channel(total.mean([2, 3])[:, None])[:, 0].sigmoid()
        total = total * gates[:, :, None, None]
        attention = self.spatial(torch.stack([total.mean(1), total.amax(1)], dim=1)).sigmoid()  # (N, 1, H, W)
        return self.norm(self.dropout(total * attention)).relu()


class Convolutions(nn.Sequential):
    """The convolutions of :class:`RegionEncoder`, one block of gradient checkpointing."""

    recomputable = True


class RegionEncoder(nn.Module):
    """Regions to vectors: LERA, five convolutions without padding, mean.

    Args:
        channels: of LERA; 3 is published.
        widths: of the convolutions, the first with stride 1, the others with 2; the last is the vector's.
        coordinates: the second and third channel of a region hold each pixel's x and y in the image
            (:class:`d2rnet.report.boxes.StandardiseRegionsd`). They are not convolved: a linear embedding of the
            region's corners is added to its vector (ours). False, as published: a region has three equal channels and
            no coordinates.
    """

    def __init__(
        self, *, channels: int = 16, widths: tuple[int, ...] = (64, 128, 256, 512, 1024), coordinates: bool = False
    ) -> None:
        super().__init__()
        self.lera = LERA(channels)
        layers: list[nn.Module] = []
        for index, (inside, outside) in enumerate(zip((channels, *widths[:-1]), widths, strict=True)):
            layers += [nn.Conv2d(inside, outside, 3, stride=1 if index == 0 else 2), nn.BatchNorm2d(outside), nn.ReLU()]
        self.layers, self.width = Convolutions(*layers), widths[-1]
        self.corners = nn.Linear(4, widths[-1]) if coordinates else None
        accept_former_names(self, {"place.": "corners."})
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a third of the time less on CPUs

    def forward(self, regions: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Vectors (B, R, width) of ``regions`` (B, R, 3, S, S); zero where ``mask`` (B, R) is False.

        All regions that there are go through in one call; batch statistics never see an empty slot.
        """
        if not torch.jit.is_scripting():  # noqa: SIM102  (TorchScript leaves out what is below, not what is beside)
            if torch.compiler.is_compiling() and not self.training:  # no branch and no size may depend on the data
                every = self.encode(regions.flatten(0, 1)).unflatten(0, [-1, mask.shape[1]])  # (B, R, width)
                return torch.where(mask[:, :, None], every, 0.0)
        results = regions.new_zeros([mask.shape[0], mask.shape[1], self.width])
        if bool(mask.any()):
            results[mask] = self.encode(regions[mask]).to(results.dtype)
        return results

    def encode(self, regions: torch.Tensor) -> torch.Tensor:
        """Vectors (N, width) of ``regions`` (N, 3, S, S)."""
        if self.corners is None:
            return self.layers(self.lera(regions)).mean([2, 3])
        corners = torch.cat([regions[:, 1:, 0, 0], regions[:, 1:, -1, -1]], dim=1)  # (N, 4), x1, y1, x2, y2
        return self.layers(self.lera(regions[:, :1].expand(-1, 3, -1, -1))).mean([2, 3]) + self.corners(corners)
