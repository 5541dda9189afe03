"""The way up: a U-Net decoder over features that have read the report."""

from __future__ import annotations

import torch
from monai.networks.blocks import UpSample
from monai.networks.nets.basic_unet import TwoConv
from torch import nn


class UpStep(nn.Module):
    """Twice the size, joined with the encoder's features, two convolutions: MONAI's ``UpCat``, for compilers."""

    def __init__(self, inside: int, skip: int, outside: int) -> None:
        super().__init__()
        self.upsample = UpSample(2, inside, inside, 2, mode="nontrainable", interp_mode="linear", align_corners=True)
        self.convs = TwoConv(2, skip + inside, outside, "relu", "batch", False)

    def forward(self, x: torch.Tensor, skip: torch.Tensor) -> torch.Tensor:
        """(B, inside, h, w) and the encoder's (B, skip, 2 * h, 2 * w) to (B, outside, 2 * h, 2 * w)."""
        return self.convs(torch.cat([skip, self.upsample(x)], dim=1))


class Decoder(nn.Module):
    """U-Net decoder from strides 32, 16, 8, 4 to one logit at full size."""

    def __init__(self, channels: list[int], *, width: int) -> None:
        super().__init__()
        first, second, third, fourth = channels
        sizes = [4 * width, 2 * width, width]
        self.up3 = UpStep(fourth, third, sizes[0])
        self.up2 = UpStep(sizes[0], second, sizes[1])
        self.up1 = UpStep(sizes[1], first, sizes[2])
        self.head = nn.Conv2d(width, 16, 1)  # 4 x 4 sub-pixel logits of each stride-4 position
        self.shuffle = nn.PixelShuffle(4)

    def forward(self, features: list[torch.Tensor]) -> torch.Tensor:
        """Maps (B, channels[i], H / s, W / s) at strides s of 4, 8, 16, 32 to logits (B, 1, H, W)."""
        x = self.up2(self.up3(features[3], features[2]), features[1])
        return self.shuffle(self.head(self.up1(x, features[0])))
