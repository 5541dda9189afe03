"""Resume: what a training must save, and seed, to end as if it had never been interrupted."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite import distributed as idist
from ignite.engine import Engine, Events
from monai.data.utils import set_rnd
from monai.utils import set_determinism
from torch.optim.lr_scheduler import LRScheduler
from torch.utils.data import DistributedSampler

from common.cli import model_file
from common.cli.atomic import whole_file
from common.cli.given import require_file
from common.engine.folders import lock_while_running

ENDS = ("total_steps", "T_max")  # steps of a schedule, after which it has no rate or begins anew
LENGTHS = (*ENDS, "step_size")  # of a schedule, in its state


def set_seed(seed: int, *, deterministic: bool = False) -> None:
    """Seed Python, numpy and torch.

    Args:
        deterministic: let cuDNN take algorithms that always give the same bits, which costs speed on a GPU.
    """
    set_determinism(seed)
    torch.backends.cudnn.deterministic = deterministic


class EpochSeed:
    """Handler: seed Python, numpy, torch and the transforms of ``dataset`` as an epoch starts, from seed, epoch, rank.

    An epoch then draws the same numbers whatever ran before it, so no random state has to be saved.
    Holds for ``persistent_workers=False``: fresh workers take their seed from torch's.
    """

    def __init__(self, *, seed: int, dataset: Any, deterministic: bool = False) -> None:
        self.seed, self.dataset, self.deterministic = seed, dataset, deterministic

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, engine: Engine) -> None:
        seed = self.seed + 10007 * engine.state.epoch + idist.get_rank()
        set_seed(seed, deterministic=self.deterministic)
        set_rnd(self.dataset, seed)
        sampler = getattr(engine.data_loader, "sampler", None)  # type: ignore[attr-defined]
        if isinstance(sampler, DistributedSampler):
            sampler.set_epoch(engine.state.epoch)


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


class TrainingState:
    """Handler: save the whole state as an epoch ends, the network alone when its metric is the best; resume.

    Attach it after the handlers that validate and step the schedule. Files are replaced whole, so a kill at any
    moment leaves the last good ones.

    Beside the network lies ``model.json`` (:mod:`common.cli.model_file`). Nothing of a model that is there is touched
    before the first epoch has ended; then everything that belongs to the new one is written, judged or not.

    Args:
        objects: what has a ``state_dict``: networks, optimizers, schedules, the trainer.
        evaluator: its ``best_metric`` is saved and restored, too.
        network: saved to ``best_path`` as a bare state dict; not wrapped for data parallel.
        resume: go on from ``path``.
        settings: for ``model.json``.
        companions: each writes files that belong to the network, such as its tokenizer, and returns their paths.
    """

    def __init__(
        self,
        *,
        path: str,
        best_path: str,
        objects: dict[str, Any],
        evaluator: Engine,
        network: torch.nn.Module,
        resume: bool = False,
        settings: Mapping[str, Any] | None = None,
        companions: Sequence[Callable[[], Sequence[str | Path]]] = (),
    ) -> None:
        self.path, self.best_path, self.resume = path, best_path, resume
        self.objects, self.evaluator, self.network = objects, evaluator, network
        self.settings, self.companions = settings or {}, companions
        self.is_new = not resume  # nothing of this training was saved yet

    def attach(self, engine: Engine) -> None:
        self.objects = {**self.objects, "trainer": engine}
        if self.resume:
            require_file(self.path, id="resume", remedy="train without --resume first")
            engine.add_event_handler(Events.STARTED, self.load)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.save)
        lock_while_running(engine, Path(self.path).parent)

    def save(self, engine: Engine) -> None:
        if idist.get_rank() > 0:
            return
        best = self.evaluator.state
        if self.is_new or best.best_metric_epoch == engine.state.epoch:  # type: ignore[attr-defined]
            self._save_model()
        states = {name: item.state_dict() for name, item in self.objects.items()}
        states["best"] = (float(best.best_metric), best.best_metric_epoch)  # type: ignore[attr-defined]
        with whole_file(self.path) as part:
            torch.save(states, part)

    def _save_model(self) -> None:
        files: dict[str, Path] = {}
        if self.is_new:
            model_file.path_of(self.best_path).unlink(missing_ok=True)
            files = {name: path for write in self.companions for name, path in self._beside(write())}
        with whole_file(self.best_path) as part:
            torch.save(self.network.state_dict(), part)
            model_file.write(self.best_path, self.settings, files={**files, Path(self.best_path).name: part})
        self.is_new = False

    def _beside(self, paths: Sequence[str | Path]) -> list[tuple[str, Path]]:
        """Those of ``paths`` that lie beside the network or below, with their names from there."""
        folder = Path(self.best_path).resolve().parent
        inside = [path for path in map(Path, paths) if path.resolve().is_relative_to(folder)]
        return [(path.resolve().relative_to(folder).as_posix(), path) for path in inside]

    def load(self, engine: Engine) -> None:
        states = torch.load(self.path, map_location=engine.state.device, weights_only=True)  # type: ignore[attr-defined]
        epochs = engine.state.max_epochs  # the command line's, not the interrupted run's
        reached = states["trainer"]["iteration"] // states["trainer"]["epoch_length"]
        length = states["trainer"]["epoch_length"]
        if engine.state.epoch_length not in (None, length):
            raise ValueError(
                f"resume: {self.path!r} has {length} batches an epoch, this training {engine.state.epoch_length}; "
                "pass the batch size, the cases and the number of processes that it had"
            )
        if epochs is not None and reached > epochs:
            raise ValueError(f"epochs: {epochs}; {self.path!r} has reached {reached}; pass --epochs {reached} or more")
        lacking = next((name for name in self.objects if name not in states), None)
        if lacking is not None:
            raise ValueError(
                f"resume: {self.path!r} holds no {lacking!r}, so that it was begun with other options or an earlier "
                "version; pass those options, or train without --resume"
            )
        for name, item in self.objects.items():
            if isinstance(item, LRScheduler) and _length(item.state_dict()) != _length(states[name]):
                go_to(item, int(states[name]["last_epoch"]))
            else:
                item.load_state_dict(states[name])
        engine.state.max_epochs = epochs
        self.evaluator.state.best_metric, self.evaluator.state.best_metric_epoch = states["best"]  # type: ignore[attr-defined]


def _length(state: dict) -> dict:
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
