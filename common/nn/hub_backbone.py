"""Vision backbones of transformers (DINOv2, ConvNeXt, Swin and their like) with the interface of our encoders."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import nn
from transformers import MODEL_FOR_BACKBONE_MAPPING, AutoConfig, PreTrainedModel

from common.nn.backbones import IMAGENET

STRIDES = (4, 8, 16, 32)


class HuggingFaceBackbone(nn.Module):
    """(B, C, H, W) to four maps at strides 4, 8, 16, 32, of any model that ``AutoBackbone`` knows.

    A model in stages gives each stage's map. A Transformer on one grid of patches gives the output of each quarter of
    its layers, resized; its image is resized first, so that a patch covers 16 of our pixels. H and W are multiples of
    32.

    Args:
        weights: a local folder or hub name, loaded by ``from_pretrained``; or a backbone made by the caller, with four
            outputs.
        in_channels: channel 0 is grey and becomes three equal channels, others are not seen; or 3 with ``colour``.
        colour: the three channels are red, green, blue.
        standardised: images were standardised with ImageNet's statistics already; else they are in [0, 1].

    Raises:
        ValueError: colour in other than 3 channels; a model of a type without a backbone, or without four outputs.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(
        self,
        *,
        weights: str | PreTrainedModel,
        in_channels: int = 1,
        colour: bool = False,
        standardised: bool = False,
    ) -> None:
        super().__init__()
        if colour and in_channels != 3:
            raise ValueError(f"in_channels: {in_channels}; colour images have 3")
        self.seen = 3 if colour else 1
        backbone = _load(weights) if isinstance(weights, str) else weights
        self.channels: list[int] = list(backbone.channels)  # type: ignore[arg-type]
        if len(self.channels) != len(STRIDES):
            raise ValueError(f"weights: the backbone has {len(self.channels)} outputs; expected {len(STRIDES)}")
        in_stages = hasattr(backbone.config, "depths")
        self.layers = _Layers(backbone)
        self.patch = 0 if in_stages else int(backbone.config.patch_size)
        mean, std = (torch.tensor(values)[:, None, None] for values in IMAGENET)
        if standardised and colour:
            mean, std = torch.zeros_like(mean), torch.ones_like(std)
        elif standardised:  # a grey image was standardised with the means over the three channels
            mean, std = (mean - mean.mean()) / std.mean(), std / std.mean()
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    def stages(self) -> list[nn.Module]:
        """Raise: these models are not cut in two.

        Raises:
            ValueError: always.
        """
        raise ValueError("backbone: this network cuts its encoder in two, which a transformers model is not made for")

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """(B, C, H, W) to (B, channels[i], H / s, W / s) at strides s of 4, 8, 16, 32, rounded down."""
        height, width = image.shape[2], image.shape[3]
        x = (image[:, : self.seen].expand(-1, 3, -1, -1) - self.mean) / self.std
        if self.patch > 0:
            grid = [height // 16 * self.patch, width // 16 * self.patch]
            x = F.interpolate(x, size=grid, mode="bilinear", align_corners=False)
        results: list[torch.Tensor] = []
        for index, features in enumerate(self.layers(x)):
            stride = 4 * 2**index
            size = [height // stride, width // stride]
            if features.shape[2] != size[0] or features.shape[3] != size[1]:
                features = F.interpolate(features, size=size, mode="bilinear", align_corners=False)
            results.append(features)
        return results


class _Layers(nn.Module):
    """The backbone as tensor in, tensors out."""

    def __init__(self, backbone: PreTrainedModel) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(self.backbone(image).feature_maps)


def _load(weights: str) -> PreTrainedModel:
    """The model with four outputs: its stages, or the ends of the quarters of its layers.

    ``AutoBackbone`` itself asks the hub even for a folder.
    """
    config = AutoConfig.from_pretrained(weights)
    if type(config) not in MODEL_FOR_BACKBONE_MAPPING:
        raise ValueError(f"weights: {weights!r} holds a {config.model_type!r}, which transformers has no backbone of")
    layers = len(config.stage_names) - 1  # the first name is the stem's
    outputs = [round(layers * quarter / 4) for quarter in (1, 2, 3, 4)]
    backbone: Any = MODEL_FOR_BACKBONE_MAPPING[type(config)]
    return backbone.from_pretrained(weights, out_indices=outputs)
