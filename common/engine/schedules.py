"""Learning rates over a training, from its length in epochs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence, Sized

from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR, StepLR


def trainable(network: nn.Module) -> list[nn.Parameter]:
    """Parameters of ``network`` that are not frozen."""
    return [parameter for parameter in network.parameters() if parameter.requires_grad]


def by_part(
    network: nn.Module, *, parts: Iterable[nn.Module], part_learning_rate: float, learning_rate: float
) -> list[dict]:
    """Parameter groups for an optimizer: those of ``parts`` with their own rate, and the rest; frozen ones left out."""
    first = [parameter for part in parts for parameter in trainable(part)]
    known = {id(parameter) for parameter in first}
    rest = [parameter for parameter in trainable(network) if id(parameter) not in known]
    groups = ((first, part_learning_rate), (rest, learning_rate))
    return [{"params": parameters, "lr": rate} for parameters, rate in groups if parameters]


def one_cycle(
    optimizer: Optimizer,
    *,
    epochs: int | Sequence[int],
    loader: Sized,
    warmup: float = 0.1,
    final_div_factor: float = 1e4,
) -> OneCycleLR:
    """Up to each group's rate in the first ``warmup`` of all steps, then down along a cosine (Smith and Topin 2017).

    Args:
        epochs: of the training; of several the most: MONAI's clients set a trainer's epochs apart from the config's.
        loader: its length is an epoch's steps.
        final_div_factor: the first rate over the last.
    """
    most = max(epochs) if isinstance(epochs, Iterable) else epochs
    return OneCycleLR(
        optimizer,
        max_lr=[group["lr"] for group in optimizer.param_groups],
        epochs=most,
        steps_per_epoch=len(loader),
        pct_start=warmup,
        final_div_factor=final_div_factor,
    )


def drop_after(optimizer: Optimizer, *, epochs: int, share: float, factor: float = 0.1) -> StepLR:
    """Times ``factor`` whenever ``share`` of the ``epochs`` is over; a step an epoch."""
    return StepLR(optimizer, step_size=max(1, round(share * epochs)), gamma=factor)
