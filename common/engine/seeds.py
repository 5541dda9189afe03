"""What is drawn at random, as a function of the seed and the step alone: no random state has to be saved."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import torch
from ignite import distributed as idist
from ignite.engine import Engine, Events
from monai.data.utils import set_rnd
from monai.utils import set_determinism

from common.engine.loaders import ResumableSampler


def set_seed(seed: int, *, deterministic: bool = False) -> None:
    """Seed Python, numpy and torch.

    Args:
        deterministic: let cuDNN take algorithms that always give the same bits, which costs speed on a GPU.
    """
    set_determinism(seed)
    torch.backends.cudnn.deterministic = deterministic


def mixed(*numbers: int) -> int:
    """A seed of 32 bits that depends on each of ``numbers``."""
    return int(np.random.SeedSequence([number % 2**32 for number in numbers]).generate_state(1)[0])


class Seeds:
    """Handler of a trainer: each epoch, each step and each case draws numbers of its own, whatever ran before it.

    As an epoch starts the transforms of ``dataset`` get its seed, from which each case of
    :func:`common.engine.caching.cached` makes its own, in whichever process it is loaded; the order of the cases is
    that of the epoch, without the batches that it has had (:class:`common.engine.loaders.ResumableSampler`). As a step
    starts Python, numpy and torch get its own. So a training goes on in the middle of an epoch as if it had never been
    interrupted.
    """

    def __init__(self, *, seed: int, dataset: Any, deterministic: bool = False) -> None:
        self.seed, self.dataset, self.deterministic = seed, dataset, deterministic

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self.start_epoch)
        engine.add_event_handler(Events.ITERATION_STARTED, self.start_step)

    def start_epoch(self, engine: Engine) -> None:
        epoch, done = engine.state.epoch, engine.state.iteration
        set_seed(mixed(self.seed, epoch, idist.get_rank()), deterministic=self.deterministic)
        set_rnd(self.dataset, mixed(self.seed, epoch))
        loader = engine.state.dataloader
        sampler = getattr(loader, "sampler", None)
        if isinstance(sampler, ResumableSampler):
            sampler.set_epoch(epoch)
            sampler.start = done % len(loader) * loader.batch_size  # type: ignore

    def start_step(self, engine: Engine) -> None:
        seed = mixed(self.seed, engine.state.epoch, engine.state.iteration, idist.get_rank())
        random.seed(seed)
        np.random.seed(seed)  # what MONAI and others draw from where they are given no generator
        torch.manual_seed(seed)
