"""The visual encoder of D2R-Net: patches and vector of the whole image, vectors of its lesion regions (spec 5.2)."""

from typing import NamedTuple, Optional

import torch
from torch import nn

from common.nn.backbones import image_encoder

from .channel_prior import ChannelPriorAttention
from .regions import RegionEncoder


class VisualFeatures(NamedTuple):
    """What the visual encoder gives.

    Attributes:
        patches: (B, views * h * w, width).
        patch_mask: bool (B, views * h * w), false for the patches of missing views.
        regions: (B, R, width), zero in empty slots; R may be 0.
    """

    patches: torch.Tensor
    patch_mask: torch.Tensor
    regions: torch.Tensor


class VisualEncoder(nn.Module):
    """ResNet, channel prior attention and a 1x1 convolution for the image; :class:`RegionEncoder` for its regions.

    Args:
        backbone: image encoder with the interface of :mod:`common.nn.backbones`, of standardised colour images.
        depth, resnet_width, weights: of :class:`common.nn.backbones.ResNetFeatures`, there without ``backbone``;
            published: 101, 64, ImageNet's.
        prior: False: the ResNet's map itself, without attention and convolution, as in R2Gen.
        region_channels: of LERA; 3 is published, and blind (spec 5.3); 0: no regions, as in R2Gen.
        region_coordinates: regions come with the coordinates of their pixels in the image; published: False.
        region_widths: of the region network; the last is the width of all that comes out with ``prior``.

    Raises:
        ValueError: regions without ``prior``: their widths would differ.
    """

    def __init__(
        self,
        *,
        backbone: Optional[nn.Module] = None,
        depth: Optional[int] = None,
        resnet_width: Optional[int] = None,
        weights: Optional[str] = None,
        prior: bool = True,
        region_channels: int = 16,
        region_coordinates: bool = False,
        region_widths: tuple[int, ...] = (64, 128, 256, 512, 1024),
    ) -> None:
        super().__init__()
        sizes = {"depth": depth, "width": resnet_width, "weights": weights}
        self.features = image_encoder(backbone, default_depth=101, in_channels=3, colour=True, **sizes)  # type: ignore[arg-type]
        channels: int = self.features.channels[3]  # type: ignore[index, assignment]
        self.width = region_widths[-1] if prior else channels
        if region_channels > 0 and not prior:
            raise ValueError("prior: regions need it; set region_channels to 0 for R2Gen")
        self.head = None
        if prior:
            self.head = nn.Sequential(ChannelPriorAttention(channels), nn.Conv2d(channels, self.width, 1, bias=False))
        self.regions = None
        if region_channels > 0:
            self.regions = RegionEncoder(
                channels=region_channels, widths=tuple(region_widths), coordinates=region_coordinates
            )

    def forward(
        self, image: torch.Tensor, view_mask: torch.Tensor, regions: Optional[torch.Tensor], region_mask: torch.Tensor
    ) -> VisualFeatures:
        """Encode ``image`` (B, views, 3, H, W) and ``regions`` (B, R, 3, S, S); the masks say which there are.

        Without ``regions`` all slots of ``region_mask`` are empty.
        """
        last = self.features(image.flatten(0, 1))[3]  # (B * views, C, h, w)
        if self.head is not None:
            last = self.head(last)
        patches = last.flatten(2).transpose(1, 2)  # (B * views, h * w, width)
        mask = view_mask[:, :, None].expand(-1, -1, patches.shape[1]).flatten(1)  # (B, P)
        results = patches.new_zeros([image.shape[0], 0, self.width])
        if self.regions is not None and regions is not None:
            results = self.regions(regions, region_mask)
        elif self.regions is not None:
            results = patches.new_zeros([region_mask.shape[0], region_mask.shape[1], self.width])
        patches = patches.unflatten(0, [image.shape[0], -1]).flatten(1, 2)  # (B, P, width)
        return VisualFeatures(patches, mask, results)
