"""Batch normalisation folded into convolutions: the same numbers up to rounding, by fewer operators."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval


def fold_batch_norms(network: nn.Module) -> None:
    """Fold, in place, each batch norm that follows a convolution into it.

    They are neighbours in a :class:`torch.nn.Sequential`, or ``conv1`` and ``bn1`` of a ResNet's block. ``network`` is
    in eval mode, and stays there: what is folded can't be trained.
    """
    for module in network.modules():
        for first, second in _neighbours(module):
            convolution, norm = getattr(module, first), getattr(module, second)
            if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, first, fuse_conv_bn_eval(convolution, norm))
                setattr(module, second, nn.Identity())


def _neighbours(module: nn.Module) -> Iterator[tuple[str, str]]:
    """Names of children of which the second takes what the first gives, and nobody else does."""
    names = [name for name, _ in module.named_children()]
    if isinstance(module, nn.Sequential):
        yield from itertools.pairwise(names)
    else:
        norms = {f"conv{name.removeprefix('bn')}": name for name in names if name.startswith("bn")}
        yield from ((name, norms[name]) for name in names if name in norms)
