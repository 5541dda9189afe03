"""Gradient checkpointing (Chen et al. 2016): what a block computed is thrown away, and computed again going back."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from typing import Any

import torch
from monai.networks.nets.resnet import ResNetBlock, ResNetBottleneck
from torch import nn
from torch.utils.checkpoint import checkpoint

MONAIS = (ResNetBlock, ResNetBottleneck)
SWITCH = "supports_gradient_checkpointing"  # of models of transformers, which not every bundle needs


class _Recomputed:
    """Mixed into the class of a block: its ``forward`` keeps what goes in, and nothing else, for the way back."""

    def forward(self, *inputs: Any, **named: Any) -> Any:
        forward = super().forward  # type: ignore[misc]
        if not torch.is_grad_enabled():
            return forward(*inputs, **named)
        contexts = functools.partial(_contexts, self)
        return checkpoint(forward, *inputs, use_reentrant=False, context_fn=contexts, **named)


def recompute(network: nn.Module) -> nn.Module:
    """Let each block of ``network`` be computed twice in a training step, for a step that needs less memory.

    Blocks are those of MONAI's ResNets, models of transformers, and what says so by ``recomputable = True``. Losses,
    gradients and running means stay what they are.

    Raises:
        ValueError: ``network`` has no such block.
    """
    blocks = [module for module in network.modules() if _is_block(module)]
    models: list[Any] = [module for module in network.modules() if getattr(module, SWITCH, False)]
    for block in blocks:
        block.__class__ = _recomputed(type(block))  # type: ignore[arg-type]
    for model in models:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    if not blocks and not models:
        raise ValueError(
            f"gradient_checkpointing: {type(network).__name__} has no block to compute again; train without it"
        )
    return network


@functools.cache
def _recomputed(known: type) -> type:
    """The class ``known``, mixed with :class:`_Recomputed` once."""
    if issubclass(known, _Recomputed):
        return known
    return type(known.__name__, (_Recomputed, known), {"__module__": known.__module__})


def _is_block(module: nn.Module) -> bool:
    return isinstance(module, MONAIS) or getattr(type(module), "recomputable", False)


def _contexts(block: Any) -> tuple[Any, Any]:
    """What surrounds the first computation, and the second, in which running means stay as they are."""
    return contextlib.nullcontext(), _still(block)


@contextlib.contextmanager
def _still(block: nn.Module) -> Iterator[None]:
    """Leave the running means of the batch norms in ``block`` as they are."""
    norms = [module for module in block.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    counts = [None if norm.num_batches_tracked is None else norm.num_batches_tracked.clone() for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum, count in zip(norms, momenta, counts, strict=True):
            norm.momentum = momentum
            if norm.num_batches_tracked is not None and count is not None:
                norm.num_batches_tracked.copy_(count)
