"""ResNet features at four strides, from MONAI's ResNet, with ImageNet weights of torchvision's files by key map."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Optional

import torch
from monai.networks.nets.resnet import ResNet
from safetensors.torch import load_file
from torch import nn

from common.nn.published import load_into

LAYERS = {18: [2, 2, 2, 2], 34: [3, 4, 6, 3], 50: [3, 4, 6, 3], 101: [3, 4, 23, 3]}
TORCHVISION_FILES = {  # weight name -> published file; the part after the dash begins its sha256
    "ResNet18_Weights.IMAGENET1K_V1": "resnet18-f37072fd.pth",
    "ResNet34_Weights.IMAGENET1K_V1": "resnet34-b627a593.pth",
    "ResNet50_Weights.IMAGENET1K_V1": "resnet50-0676ba61.pth",
    "ResNet50_Weights.IMAGENET1K_V2": "resnet50-11ad3fa6.pth",
    "ResNet101_Weights.IMAGENET1K_V1": "resnet101-63fe2227.pth",
    "ResNet101_Weights.IMAGENET1K_V2": "resnet101-cd907fc2.pth",
}
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))  # mean and standard deviation of red, green, blue
TORCHVISION_URL = "https://download.pytorch.org/models/"


class ResNetFeatures(nn.Module):
    """ResNet-18/34/50/101 without its classifier: (B, C, H, W) to four maps at strides 4, 8, 16, 32.

    Args:
        depth: 18, 34, 50 or 101.
        in_channels: 1 sums the three colour filters of pretrained weights; with more, the sum serves channel 0 and the
            others start at zero, unless there are exactly three and ``colour`` is set.
        weights: None (from scratch), a file (.pth, .pt, .safetensors) or a torchvision weight name.
        colour: the three input channels are red, green, blue.
        width: channels of the first stage; 64 is the published network, and needed for published weights.

    Raises:
        ValueError: an unknown depth or weight name, or weights that do not fit.
        FileNotFoundError: ``weights`` looks like a file that is not there.
    """

    def __init__(
        self,
        *,
        depth: int = 34,
        in_channels: int = 1,
        weights: Optional[str] = None,
        colour: bool = False,
        width: int = 64,
    ) -> None:
        super().__init__()
        if depth not in LAYERS:
            raise ValueError(f"depth: {depth} is none of {sorted(LAYERS)}")
        net = ResNet(
            "bottleneck" if depth >= 50 else "basic",
            LAYERS[depth],
            [width, 2 * width, 4 * width, 8 * width],
            spatial_dims=2,
            n_input_channels=in_channels,
            conv1_t_size=7,
            conv1_t_stride=2,
            feed_forward=False,
            bias_downsample=False,
        )
        expansion = 4 if depth >= 50 else 1
        self.channels = [width * expansion * 2**stage for stage in range(4)]
        self.stem = nn.Sequential(net.conv1, net.bn1, net.act)
        self.pool = net.maxpool
        self.layer1, self.layer2, self.layer3, self.layer4 = net.layer1, net.layer2, net.layer3, net.layer4
        if weights is not None:
            load_resnet(self, read_weights(weights), colour=colour)

    def stages(self) -> list[nn.Module]:
        """The parts in their order; the last makes the map at stride 32 of that at stride 16."""
        return [self.stem, self.pool, self.layer1, self.layer2, self.layer3, self.layer4]

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """(B, in_channels, H, W) to (B, channels[i], H / s, W / s) at strides s of 4, 8, 16, 32, rounded up."""
        first = self.layer1(self.pool(self.stem(image)))  # stride 4
        second = self.layer2(first)
        third = self.layer3(second)
        return [first, second, third, self.layer4(third)]


def image_encoder(
    given: Optional[nn.Module],
    *,
    default_depth: int,
    depth: Optional[int],
    width: Optional[int],
    weights: Optional[str],
    in_channels: int,
    colour: bool = False,
) -> nn.Module:
    """The encoder ``given`` to a network, or a ResNet of ``depth`` (None: ``default_depth``) and ``width`` (None: 64).

    Raises:
        ValueError: an encoder and sizes of a ResNet are both given.
    """
    if given is None:
        return ResNetFeatures(
            depth=depth or default_depth, in_channels=in_channels, weights=weights, colour=colour, width=width or 64
        )
    sizes = {"depth": depth, "width": width, "weights": weights}
    if any(value is not None for value in sizes.values()):
        raise ValueError(f"network_def: {sizes} are a ResNet's, and another backbone is given; set backbone to null")
    return given


def load_resnet(network: ResNetFeatures, state: dict[str, torch.Tensor], *, colour: bool = False) -> None:
    """Load a state dict with torchvision's names; every entry is used but the classifier ``fc``.

    Raises:
        ValueError: entries are missing, left over, or of another shape.
    """
    renamed = {_key(name): value for name, value in state.items() if not name.startswith("fc.")}
    first = "stem.0.weight"
    if first in renamed and not colour:
        renamed[first] = fit_filters(renamed[first], network.stem[0].in_channels)  # type: ignore[arg-type]
    load_into(network, renamed, name="this ResNet")


def _key(name: str) -> str:
    """Our name of torchvision's entry ``name``."""
    for prefix, ours in (("conv1.", "stem.0."), ("bn1.", "stem.1.")):
        if name.startswith(prefix):
            return ours + name.removeprefix(prefix)
    return name


def fit_filters(filters: torch.Tensor, channels: int) -> torch.Tensor:
    """Colour filters (O, 3, 7, 7) for a grey image in channel 0 and further channels that start unseen."""
    grey = torch.zeros(filters.shape[0], channels, *filters.shape[2:], dtype=filters.dtype)
    grey[:, 0] = filters.sum(1)
    return grey


def read_weights(weights: str) -> dict[str, torch.Tensor]:
    """Read a state dict from a file, or from torchvision's published file of a weight name (cached by torch.hub).

    Raises:
        FileNotFoundError: no such file.
        ValueError: neither a file nor a known name, or the download failed.
    """
    if weights in TORCHVISION_FILES:
        url = TORCHVISION_URL + TORCHVISION_FILES[weights]
        try:
            return torch.hub.load_state_dict_from_url(url, map_location="cpu", check_hash=True, weights_only=True)
        except OSError as error:
            raise ValueError(
                f"weights: {weights} could not be fetched ({error}); pass the path of {TORCHVISION_FILES[weights]}"
            ) from error
    if not os.path.isfile(weights):
        if Path(weights).suffix:
            raise FileNotFoundError(
                f"weights: no file {weights!r}; pass null, a file or one of {sorted(TORCHVISION_FILES)}"
            )
        raise ValueError(f"weights: {weights!r} is neither a file nor one of {sorted(TORCHVISION_FILES)}")
    if weights.endswith(".safetensors"):
        return load_file(weights)
    return torch.load(weights, map_location="cpu", weights_only=True)
