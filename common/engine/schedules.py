"""Learning rates over a training, from its length in epochs."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence, Sized

from ignite.engine import Engine, Events
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, StepLR

ENDS = ("total_steps", "T_max")  # steps of a schedule, after which it has no rate or begins anew
LENGTHS = (*ENDS, "step_size")  # of a schedule, in its state


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
    steps = most * len(loader)
    if abs(warmup * steps - 1) < 1e-9:  # it would end at the step it begins with, and torch would divide by that
        warmup = 2 / steps
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


class StepSchedule:
    """Handler: a step of ``lr_scheduler`` after each iteration, or each epoch; past its end the rate stays as it is.

    Trainings may go on beyond the epochs that a schedule was made for: federated learning runs round after round.
    """

    def __init__(self, *, lr_scheduler: LRScheduler, epoch_level: bool) -> None:
        self.lr_scheduler, self.epoch_level = lr_scheduler, epoch_level

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_COMPLETED if self.epoch_level else Events.ITERATION_COMPLETED, self)

    def __call__(self, _: Engine) -> None:
        end = next((getattr(self.lr_scheduler, name) for name in ENDS if hasattr(self.lr_scheduler, name)), None)
        if end is None or self.lr_scheduler.last_epoch < end:
            with warnings.catch_warnings():  # torch reminds of the optimizer's step: a part may learn later than others
                warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
                self.lr_scheduler.step()


def length_of(state: dict) -> dict:
    """What the state of a schedule says of the training's length."""
    return {name: state[name] for name in LENGTHS if name in state}


def go_to(schedule: LRScheduler, step: int) -> None:
    """Let a new ``schedule``, of another length than the saved one, stand where ``step`` of its steps lead."""
    for group, rate in zip(schedule.optimizer.param_groups, schedule.get_last_lr(), strict=True):
        group["lr"] = rate
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch reminds of the optimizer's steps, which were taken before
        for _ in range(step):
            schedule.step()
