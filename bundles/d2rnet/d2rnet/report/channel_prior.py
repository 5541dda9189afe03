"""Channel prior convolutional attention (Huang et al. 2024), as in the published D2R-Net (spec 5.2)."""

import torch
from torch import nn


class ChannelGate(nn.Module):
    """Weights of the channels, from their means and their maxima; between 0 and 2."""

    def __init__(self, channels: int, *, reduction: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(channels, channels // reduction, 1)
        self.excite = nn.Conv2d(channels // reduction, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) to (N, C, 1, 1)."""
        pooled = torch.stack([x.mean([2, 3], keepdim=True), x.amax([2, 3], keepdim=True)])  # (2, N, C, 1, 1)
        results = self.excite(self.squeeze(pooled.flatten(0, 1)).relu()).sigmoid()  # (2 * N, C, 1, 1)
        return results.unflatten(0, [2, -1]).sum(0)  # (N, C, 1, 1)


class ChannelPriorAttention(nn.Module):
    """Weight channels, then positions by depth-wise strips of three lengths.

    One 1x1 convolution serves three times, before, between and after, as published.
    """

    def __init__(self, channels: int, *, reduction: int = 4, strips: tuple[int, ...] = (7, 11, 21)) -> None:
        super().__init__()
        self.gate = ChannelGate(channels, reduction=reduction)
        self.local = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.strips = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, channels, (1, size), padding=(0, size // 2), groups=channels),
                nn.Conv2d(channels, channels, (size, 1), padding=(size // 2, 0), groups=channels),
            )
            for size in strips
        )
        self.mix = nn.Conv2d(channels, channels, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, channels, H, W) to the same."""
        x = nn.functional.gelu(self.mix(x))
        x = self.gate(x) * x
        local = self.local(x)
        total = local
        for strip in self.strips:
            total = total + strip(local)
        return self.mix(self.mix(total) * x)
