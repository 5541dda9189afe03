"""CLIP-TNseg: coarse segmentation from frozen CLIP features under a text condition, refined by a residual U-Net.

"CLIP-TNseg" (IEEE Signal Processing Letters 32:1625-1629, 2025; arXiv 2412.05530), as in its published code: CLIPSeg's
decoder (Lueddecke and Ecker 2022) with 64 output channels, a U-Net of residual blocks, a residual head. One CLIP where
the published class holds two, and none of its unused parameters.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Optional

import torch
import torch.nn.functional as F
from torch import nn

from common.nn.fusion import FiLM

from .frozen_clip import FrozenClip

GROUPS = 32  # of every group norm


class CoarseBranch(nn.Module):
    """From CLIP's taps and a condition to a map of the image's size: CLIPSeg's decoder.

    Args:
        taps: how many taps there are, the first one the shallowest.
        tap_dim, condition_dim: widths of CLIP's image tower and of its embedding.
        dim: width of the decoder.
        patch: side of what a token becomes: CLIP's patch size, at a larger ``stride`` of the network less.
    """

    def __init__(self, *, taps: int, tap_dim: int, condition_dim: int, dim: int = 64, patch: int = 16) -> None:
        super().__init__()
        self.reduce = nn.ModuleList(nn.Linear(tap_dim, dim) for _ in range(taps))
        self.film = FiLM(condition_dim=condition_dim, channels=dim)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(dim, 4, 2048, batch_first=True) for _ in range(taps)
        )  # post-norm, ReLU, dropout 0.1
        self.upsample = nn.ConvTranspose2d(dim, dim, patch, stride=patch)

    def forward(self, taps: list[torch.Tensor], condition: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """Decode ``taps`` (B, 1 + height*width, tap_dim), class token first, to (B, dim, patch*height, patch*width)."""
        x = torch.zeros(1, device=condition.device, dtype=condition.dtype)
        for index, (reduce, block) in enumerate(zip(self.reduce, self.blocks)):  # noqa: B905 (TorchScript)
            x = reduce(taps[len(taps) - 1 - index]) + x  # (B, T, D), of the deepest tap first
            if index == 0:
                x = self.film(x.transpose(1, 2), condition).transpose(1, 2)  # over (B, D, T)
            x = block(x)
        grid = x[:, 1:].transpose(1, 2).unflatten(2, [height, width])  # (B, D, h, w)
        return self.upsample(grid)


class ResidualBlock(nn.Module):
    """Twice group norm, SiLU, 3x3 convolution; plus the input, through a 1x1 convolution if the width changes."""

    recomputable = True

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(GROUPS, inputs), nn.Conv2d(inputs, outputs, 3, padding=1)
        self.norm2, self.conv2 = nn.GroupNorm(GROUPS, outputs), nn.Conv2d(outputs, outputs, 3, padding=1)
        self.skip = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, inputs, H, W) to (B, outputs, H, W)."""
        inplace = not torch.is_grad_enabled()  # training needs what SiLU was computed from
        hidden = self.conv1(F.silu(self.norm1(x), inplace=inplace))
        return self.conv2(F.silu(self.norm2(hidden), inplace=inplace)) + self.skip(x)


class FineBranch(nn.Module):
    """U-Net of residual blocks on the image itself; every step of the encoder is a skip connection of the decoder.

    Args:
        width: channels of the first level, a multiple of 32.
        factors: channels of each level as multiples of ``width``; the size halves from level to level.
        blocks: residual blocks a level in the encoder; the decoder has one more.
    """

    def __init__(
        self, *, in_channels: int = 3, width: int = 32, factors: Sequence[int] = (1, 1, 2, 2, 4, 4), blocks: int = 2
    ) -> None:
        super().__init__()
        channels = [width * factor for factor in factors]
        steps: list[nn.Module] = [nn.Conv2d(in_channels, width, 3, padding=1)]
        widths = [width]
        for level, size in enumerate(channels):
            if level > 0:
                steps.append(nn.Conv2d(widths[-1], widths[-1], 3, stride=2, padding=1))
                widths.append(widths[-1])
            for _ in range(blocks):
                steps.append(ResidualBlock(widths[-1], size))
                widths.append(size)
        self.encoder = nn.ModuleList(steps)
        self.middle = nn.Sequential(*(ResidualBlock(widths[-1], widths[-1]) for _ in range(2)))
        decoder, current = [], widths[-1]
        for level, size in reversed(list(enumerate(channels))):
            for index in range(blocks + 1):
                block: list[nn.Module] = [ResidualBlock(current + widths.pop(), size)]
                current = size
                if level > 0 and index == blocks:
                    block += [nn.Upsample(scale_factor=2.0, mode="nearest"), nn.Conv2d(size, size, 3, padding=1)]
                decoder.append(nn.Sequential(*block))
        self.decoder = nn.ModuleList(decoder)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) to (B, width, H, W); H and W are multiples of 2 ** (levels - 1)."""
        skips, x = [], image
        for step in self.encoder:
            x = step(x)
            skips.append(x)
        x = self.middle(x)
        for block in self.decoder:
            x = block(torch.cat([x, skips.pop()], dim=1))
        return x


class PretrainedFineBranch(nn.Module):
    """The fine branch on an image encoder that was trained before, in place of the published one from scratch.

    A U-Net: the encoder's maps at strides 32 to 4, each reduced, meet on the way up in one residual block a level.

    Args:
        backbone: image encoder with the interface of :mod:`common.nn.backbones`, of standardised colour images.
        width: channels at strides 4 and 8, a multiple of 32; twice and four times as many at 16 and 32.
        stride: of what comes out, 1, 2 or 4.
    """

    def __init__(self, *, backbone: nn.Module, width: int = 32, stride: int = 1) -> None:
        super().__init__()
        self.backbone, self.factor = backbone, 4.0 / stride
        channels: list[int] = backbone.channels  # type: ignore[assignment]
        widths = [width, width, 2 * width, 4 * width]
        self.reduce = nn.ModuleList(nn.Conv2d(a, b, 1) for a, b in zip(channels, widths, strict=True))
        self.blocks = nn.ModuleList(ResidualBlock(below + level, level) for level, below in pairwise(widths))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) to (B, width, H / stride, W / stride); H and W are multiples of 32."""
        reduced: list[torch.Tensor] = []
        maps = self.backbone(image)
        for index, reduce in enumerate(self.reduce):
            reduced.append(reduce(maps[index]))
        x = reduced[3]
        for index in range(2, -1, -1):
            for level, block in enumerate(self.blocks):  # TorchScript takes no index into a list of modules
                if level == index:
                    x = block(torch.cat([enlarge(x, 2.0), reduced[index]], dim=1))
        return enlarge(x, self.factor)


def enlarge(x: torch.Tensor, factor: float) -> torch.Tensor:
    """``x`` (B, C, h, w) at ``factor`` times its size."""
    return F.interpolate(x, scale_factor=factor, mode="bilinear", align_corners=False)


def fine_branch(backbone: Optional[nn.Module], *, width: int, stride: int) -> nn.Module:
    """The published fine branch, or the one on ``backbone``."""
    if backbone is None:
        return FineBranch(width=width)
    return PretrainedFineBranch(backbone=backbone, width=width, stride=stride)


class CLIPTNseg(nn.Module):
    """Both branches and the head.

    Args:
        clip: frozen.
        backbone: of :class:`PretrainedFineBranch`; None: the published fine branch, from scratch.
        dim: width of the coarse branch and of the head.
        fine_width: of the fine branch.
        stride: of both branches' maps and of the head; published: 1. The logits are enlarged to the image's size.
        coarse, fine: an ablation leaves one branch out.

    Raises:
        ValueError: both branches are left out; a stride that is none of 1, 2, 4, or not 1 without ``backbone``.
    """

    def __init__(
        self,
        *,
        clip: FrozenClip,
        backbone: Optional[nn.Module] = None,
        dim: int = 64,
        fine_width: int = 32,
        stride: int = 1,
        coarse: bool = True,
        fine: bool = True,
    ) -> None:
        super().__init__()
        self.clip = clip
        if not coarse and not fine:
            raise ValueError("network_def: coarse and fine are both false; keep one branch at least")
        if stride not in (1, 2, 4) or (stride > 1 and backbone is None):
            raise ValueError(f"stride: {stride}; expected 1, 2 or 4, and 1 without a backbone")
        self.stride = float(stride)
        self.coarse, self.fine, channels = None, None, 0
        if coarse:
            sizes = {"taps": len(clip.taps), "tap_dim": clip.width, "condition_dim": clip.embed_dim}
            self.coarse, channels = CoarseBranch(**sizes, dim=dim, patch=clip.patch // stride), dim
        if fine:
            self.fine, channels = fine_branch(backbone, width=fine_width, stride=stride), channels + fine_width
        self.head = nn.Sequential(ResidualBlock(channels, dim), ResidualBlock(dim, dim), nn.Conv2d(dim, 1, 1))

    def forward(
        self,
        image: torch.Tensor,
        input_ids: Optional[torch.Tensor] = None,
        attention_mask: Optional[torch.Tensor] = None,
    ) -> torch.Tensor:
        """Logits (B, 1, H, W) of what the phrase names.

        Args:
            image: float (B, 3, H, W), standardised with ImageNet's statistics; H and W are multiples of 32.
            input_ids, attention_mask: int64 (B, L), the phrase between CLIP's begin and end tokens; without ids the
                condition is zero.
        """
        if input_ids is None:
            condition = torch.zeros(image.shape[0], self.clip.embed_dim, device=image.device)
        else:
            condition = self.clip.condition(input_ids, attention_mask)
        return self.segment(image, self.taps(image), condition)

    def taps(self, image: torch.Tensor) -> list[torch.Tensor]:
        """CLIP's taps of ``image``; none where no branch reads them."""
        taps: list[torch.Tensor] = []
        if self.coarse is not None:
            taps = self.clip(image)
        return taps

    @torch.jit.unused
    def image_features(self) -> tuple[nn.Module, Callable[[torch.Tensor], object]]:
        """As :mod:`common.engine.familiarity` has it: of the trained encoder, or of CLIP."""
        encoder = next(iter(self.encoders()), self.clip)
        return encoder, encoder

    @torch.jit.unused
    def encoders(self) -> list[nn.Module]:
        """The parts that are trained and were trained before, whose learning rate is their own."""
        return [self.fine.backbone] if isinstance(self.fine, PretrainedFineBranch) else []

    @torch.jit.unused
    def convolutions(self) -> list[nn.Module]:
        """The parts that are trained and made of convolutions."""
        parts = [self.fine, self.head, None if self.coarse is None else self.coarse.upsample]
        return [part for part in parts if part is not None]

    def segment(self, image: torch.Tensor, taps: list[torch.Tensor], condition: torch.Tensor) -> torch.Tensor:
        """As ``forward``, from taps (B, T, D) and condition (B, E) that were computed before."""
        features: list[torch.Tensor] = []
        if self.coarse is not None:
            height, width = image.shape[2] // self.clip.patch, image.shape[3] // self.clip.patch
            features.append(self.coarse(taps, condition, height, width))
        if self.fine is not None:
            features.append(self.fine(image))
        logits = self.head(torch.cat(features, dim=1))
        return logits if self.stride == 1.0 else enlarge(logits, self.stride)
