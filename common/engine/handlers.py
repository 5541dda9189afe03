"""What a training does at each epoch, as one handler."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.engines import Evaluator
from monai.handlers import CheckpointLoader, ValidationHandler
from torch.optim.lr_scheduler import LRScheduler

from common.cli.given import require_weights
from common.cli.model_file import settings_of
from common.cli.running import running_parser
from common.engine.averaging import AveragedWeights
from common.engine.distributed import EqualBuffers
from common.engine.familiarity import FitFamiliarity
from common.engine.precision import ScaledLoss, scaled_loss
from common.engine.progress import BestLine, EpochLine, FiniteLoss
from common.engine.schedules import StepSchedule
from common.engine.seeds import Seeds
from common.engine.state import TrainingState


class LoadWeights(CheckpointLoader):
    """MONAI's handler, as an engine first starts: later the network may be laid out anew, or have learned."""

    def __init__(self, *, network: torch.nn.Module, path: str) -> None:
        super().__init__(load_path=path, load_dict={"model": network}, map_location="cpu")  # type: ignore[arg-type]
        self.loaded = False

    def __call__(self, engine: Engine) -> None:
        if not self.loaded:
            super().__call__(engine)
        self.loaded = True


def load_weights(*, network: torch.nn.Module, path: str) -> CheckpointLoader:
    """What loads ``network``, a bare state dict, from the file ``path`` as an engine first starts."""
    return LoadWeights(network=network, path=path)


class ValidateEvery(ValidationHandler):
    """MONAI's handler, after every ``interval`` epochs, and after the last, which nothing else would judge."""

    def attach(self, engine: Engine) -> None:
        def is_due(engine: Engine, epoch: int) -> bool:
            return epoch % self.interval == 0 or epoch == engine.state.max_epochs

        engine.add_event_handler(Events.EPOCH_COMPLETED(event_filter=is_due), self)


def _from_pretrained(folder: str | None, weights: str | None, network: torch.nn.Module) -> list[CheckpointLoader]:
    """What loads the file of the name of ``weights`` in ``folder``; nothing where one of them is None."""
    if folder is None or weights is None:
        return []
    path = require_weights(str(Path(folder) / Path(weights).name), id="pretrained")
    return [load_weights(network=network, path=path)]


def _settings() -> dict[str, Any]:
    """For ``model.json``: those of the config that is being built; none where there is none."""
    parser = running_parser()
    return {} if parser is None else settings_of(parser)


def _averaged(
    state: Mapping[str, Any], best: torch.nn.Module | None, evaluator: Evaluator, decay: float
) -> tuple[list[Any], Mapping[str, Any], torch.nn.Module | None]:
    """What averages the weights by ``decay``, the state with the average, and it as the best; as they are for 0."""
    if not decay:
        return [], state, best
    average = AveragedWeights(network=state["network"], evaluator=evaluator, decay=decay)
    network = average.averaged.module
    return [average, EqualBuffers(network=network)], {**state, "averaged": average.averaged}, network


def _scaled(
    state: Mapping[str, Any], evaluator: Evaluator, amp: bool | str
) -> tuple[list[ScaledLoss], Mapping[str, Any]]:
    """What scales the loss where ``amp`` needs it, and the state with its scale."""
    scaled = scaled_loss(getattr(evaluator.state, "device", "cpu"), amp)
    return ([], state) if scaled is None else ([scaled], {**state, "scaler": scaled.scaler})


def _schedules(state: Mapping[str, Any], *, epoch_level: bool) -> list[StepSchedule]:
    """What lets each schedule of ``state`` take its steps."""
    items = [item for item in state.values() if isinstance(item, LRScheduler)]
    return [StepSchedule(lr_scheduler=item, epoch_level=epoch_level) for item in items]


def _familiarity(network: torch.nn.Module, dataset: Any, evaluator: Evaluator, weights: str) -> FitFamiliarity | None:
    """What fits the familiarity of ``network``; None where it has no part in it."""
    if not hasattr(network, "image_features"):
        return None
    return FitFamiliarity(network=network, dataset=dataset, evaluator=evaluator, weights=weights)


def _check(schedule: str, accumulate: int) -> None:
    if schedule not in ("iteration", "epoch"):
        raise ValueError(f"schedule: {schedule!r} is neither 'iteration' nor 'epoch'")
    if accumulate < 1:
        raise ValueError(f"accumulate: {accumulate} batches make no step; pass 1 or more")


class TrainingHandlers:
    """Handler of a trainer: seed, equal buffers, validation, a line of progress, the schedule, and the saved state.

    They run in this order, on which resuming bit by bit depends.

    Args:
        evaluator: validates; its key metric chooses the best network.
        dataset: whose transforms are seeded anew each epoch.
        state: what is saved to resume, by name: ``network, optimizer, lr_scheduler``, and what else has a
            ``state_dict``.
        best: saved when its metric is the best, as a bare state dict; None: ``state["network"]``.
        schedule: "iteration" or "epoch", after which the schedules of ``state`` take a step.
        folder, prefix: of ``{prefix}history.csv`` and ``{prefix}checkpoint.pt``.
        weights: file of the best network; None: nothing is saved but the history.
        ema_decay: of :class:`common.engine.averaging.AveragedWeights`, then validated and saved as the best; 0: none.
        accumulate: batches whose gradients make one step (:func:`common.engine.steps.take_step`).
        amp: as :func:`common.engine.precision.half_of` has it; what float16 needs is then part of the state.
        save_minutes: between two states saved within an epoch.
        keep_best: of :class:`common.engine.state.TrainingState`.
        pretrained: folder of a trained network to start from, a file of the name of ``weights`` in it; None: none.
        companions: of :class:`common.engine.state.TrainingState`.

    Raises:
        FileNotFoundError: ``pretrained`` holds no such file.
        ValueError: ``schedule`` is neither; ``accumulate`` is below 1; that file holds no weights.
    """

    def __init__(
        self,
        *,
        evaluator: Evaluator,
        dataset: Any,
        state: Mapping[str, Any],
        schedule: str,
        folder: str,
        weights: str | None,
        best: torch.nn.Module | None = None,
        ema_decay: float = 0.0,
        prefix: str = "",
        interval: int = 1,
        seed: int = 0,
        deterministic: bool = False,
        resume: bool = False,
        accumulate: int = 1,
        amp: bool | str = False,
        save_minutes: float = 15.0,
        keep_best: int = 1,
        pretrained: str | None = None,
        companions: Sequence[Callable[[], Sequence[str | Path]]] = (),
    ) -> None:
        _check(schedule, accumulate)
        self.accumulate = accumulate
        scaled, state = _scaled(state, evaluator, amp)
        averages, state, best = _averaged(state, best, evaluator, ema_decay)
        line = EpochLine(evaluator=evaluator, path=f"{folder}/{prefix}history.csv", may_overflow=bool(scaled))
        start = [] if resume else _from_pretrained(pretrained, weights, state["network"])
        self.handlers: list[Any] = [
            *scaled,
            *start,
            *averages,
            Seeds(seed=seed, dataset=dataset, deterministic=deterministic),
            EqualBuffers(network=state["network"]),
            FiniteLoss(line),
            ValidateEvery(validator=evaluator, interval=interval),
            line,
            *_schedules(state, epoch_level=schedule == "epoch"),
        ]
        if weights is not None:
            files: dict[str, Any] = {"path": f"{folder}/{prefix}checkpoint.pt", "best_path": weights}
            files |= {"companions": companions, "keep_best": keep_best}
            when: dict[str, Any] = {"progress": line, "minutes": save_minutes, "resume": resume}
            network = state["network"] if best is None else best
            objects: dict[str, Any] = {"objects": dict(state), "evaluator": evaluator, "network": network}
            self.handlers.append(BestLine(evaluator=evaluator, weights=weights))
            self.handlers.append(TrainingState(**files, **when, **objects, settings=_settings()))
            self.familiarity = _familiarity(network, dataset, evaluator, weights)
            self.handlers += [self.familiarity] if self.familiarity is not None else []

    def attach(self, engine: Engine) -> None:
        engine.state.accumulate = self.accumulate  # type: ignore[attr-defined]
        for handler in self.handlers:
            handler.attach(engine)
