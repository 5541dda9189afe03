"""Validate and keep a moving average of the weights in place of the last ones, which jump from step to step."""

from __future__ import annotations

import torch
from ignite.engine import Engine, Events
from torch import nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from common.engine.steps import position_in_group

ParamList = tuple[torch.Tensor, ...] | list[torch.Tensor]


class AveragedWeights:
    """Handler of a trainer: keep the exponential moving average of ``network``, and validate with it.

    While ``evaluator`` runs, network and average have changed places, so that whatever reads or writes the network, as
    a threshold chosen on validation, does so in the average.

    Args:
        decay: share of the average that a step leaves; 0.99 averages about the last 100 steps. Of few steps, about the
            last tenth of them: after n steps the share is ``(1 + n) / (10 + n)`` at most.

    Raises:
        ValueError: ``decay`` is not between 0 and 1.
    """

    def __init__(self, *, network: nn.Module, evaluator: Engine, decay: float) -> None:
        if not 0 < decay < 1:
            raise ValueError(f"ema_decay: {decay} is not between 0 and 1; pass such as 0.99, or 0 for no average")
        self.network, self.evaluator = network, evaluator

        def average(averaged: ParamList, current: ParamList, steps: torch.Tensor | int) -> None:
            share = min(decay, float((1 + steps) / (10 + steps)))
            get_ema_multi_avg_fn(share)(averaged, current, steps)

        self.averaged = AveragedModel(network, multi_avg_fn=average, use_buffers=True)

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._follow)
        self.evaluator.add_event_handler(Events.STARTED, self._exchange)
        self.evaluator.add_event_handler(Events.COMPLETED, self._exchange)

    def _follow(self, engine: Engine) -> None:
        """After each step, which several batches may make."""
        if position_in_group(engine)[1]:
            self.averaged.update_parameters(self.network)

    @torch.no_grad()
    def _exchange(self, _: Engine) -> None:
        mine, other = self.network.state_dict(), self.averaged.module.state_dict()
        for name, value in mine.items():
            kept = value.clone()
            value.copy_(other[name])
            other[name].copy_(kept)
