"""The visual side of D2R-Net: patches and vector of the whole image, vectors of its lesion regions (spec 5.2)."""

from typing import NamedTuple, Optional

import torch
from torch import nn

from common.backbones import ResNetFeatures

from .channel_prior import ChannelPriorAttention
from .regions import RegionEncoder


class Seen(NamedTuple):
    """What the visual side gives.

    Attributes:
        patches: (B, h * w, width).
        whole: (B, width), mean of the patches.
        regions: (B, R, width), zero in empty slots; R may be 0.
    """

    patches: torch.Tensor
    whole: torch.Tensor
    regions: torch.Tensor


class VisualSide(nn.Module):
    """ResNet, channel prior attention and a 1x1 convolution for the image; :class:`RegionEncoder` for its regions.

    Args:
        depth, resnet_width, weights: of :class:`common.backbones.ResNetFeatures`; published: 101, 64, ImageNet's.
        region_channels: of LERA; 3 is published, and blind (spec 5.3).
        region_widths: of the region network; the last is the width of all that comes out.
    """

    def __init__(
        self,
        *,
        depth: int = 101,
        resnet_width: int = 64,
        weights: Optional[str] = None,
        region_channels: int = 16,
        region_widths: tuple[int, ...] = (64, 128, 256, 512, 1024),
    ) -> None:
        super().__init__()
        self.features = ResNetFeatures(depth=depth, in_channels=3, weights=weights, colour=True, width=resnet_width)
        channels, self.width = self.features.channels[3], region_widths[-1]
        self.prior = ChannelPriorAttention(channels)
        self.embed = nn.Conv2d(channels, self.width, 1, bias=False)
        self.regions = RegionEncoder(channels=region_channels, widths=region_widths)

    def forward(self, image: torch.Tensor, regions: torch.Tensor, mask: torch.Tensor) -> Seen:
        """``image`` (B, 3, H, W), ``regions`` (B, R, 3, S, S), of which ``mask`` (B, R) there are."""
        patches = self.embed(self.prior(self.features(image)[3])).flatten(2).transpose(1, 2)
        return Seen(patches, patches.mean(1), self.regions(regions, mask))
