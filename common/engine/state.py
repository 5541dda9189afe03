"""Resume: what a training must save to end as if it had never been interrupted, in the middle of an epoch, too."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite import distributed as idist
from ignite.engine import Engine, Events
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from common.cli import model_file
from common.cli.atomic import whole_file
from common.cli.given import require_file
from common.engine.best_models import BestModels
from common.engine.distributed import gather
from common.engine.folders import lock_while_running
from common.engine.progress import EpochLine
from common.engine.schedules import go_to, length_of
from common.engine.steps import accumulated, position_in_group
from common.engine.stopping import StopRequest
from common.engine.tensor_files import save_tensors

logger = logging.getLogger(__name__)
ANEW = ("scaler", "best_models")  # may be missing in a state: another --amp, or an earlier version
AGREE = 5  # steps after which several processes ask each other whether to save
LONG = 60.0  # seconds of an epoch, after which its end is saved before it is validated


class TrainingState:
    """Handler: save the whole state as an epoch ends, and within it; the network alone when its metric is the best.

    Attach it after the handlers that validate and step the schedule. Files are replaced whole, so a kill at any
    moment leaves the last good ones. Within an epoch the state is saved every ``minutes``, before the validation of a
    long epoch, and when SIGTERM comes, which then ends the process with code 143.

    Beside the network lies ``model.json`` (:mod:`common.cli.model_file`). Nothing of a model that is there is touched
    before the state is first saved; then it is kept in the folder ``earlier``, and everything that belongs to the new
    one is written, judged or not. SIGTERM before that leaves it as it is.

    Ignite's ``Checkpoint`` holds what the first process has alone, removes a file before it writes the next in its
    place, and knows nothing of files that belong to a network: here the state within an epoch has the sums and running
    means of every process, and a network, its companions and ``model.json`` stand or fall together.

    Args:
        objects: what has a ``state_dict``: networks, optimizers, schedules, the trainer.
        evaluator: its ``best_metric`` is saved and restored, too.
        network: saved to ``best_path`` as a bare state dict; not wrapped for data parallel.
        progress: whose sums of an epoch are saved within it.
        minutes: between two saves within an epoch.
        resume: go on from ``path``.
        settings: for ``model.json``.
        companions: each writes files that belong to the network, such as its tokenizer, and returns their paths.
        keep_best: networks that are kept by their metric (:class:`common.engine.best_models.BestModels`).
    """

    def __init__(
        self,
        *,
        path: str,
        best_path: str,
        objects: dict[str, Any],
        evaluator: Engine,
        network: torch.nn.Module,
        progress: EpochLine | None = None,
        minutes: float = 15.0,
        resume: bool = False,
        settings: Mapping[str, Any] | None = None,
        companions: Sequence[Callable[[], Sequence[str | Path]]] = (),
        keep_best: int = 1,
    ) -> None:
        self.path, self.best_path, self.resume = path, best_path, resume
        self.objects, self.evaluator, self.network = objects, evaluator, network
        self.settings, self.companions = settings or {}, companions
        self.progress, self.seconds = progress, 60 * minutes
        self.best = BestModels(best_path, count=keep_best)
        self.objects = {**self.objects, "best_models": self.best}
        self.is_new = not resume  # nothing of this training was saved yet
        self.stop = StopRequest()
        self.saved_at = time.monotonic()

    def attach(self, engine: Engine) -> None:
        self.objects = {**self.objects, "trainer": engine}
        lock_while_running(engine, Path(self.path).parent, release=self.stop.release)
        engine.add_event_handler(Events.STARTED, self._start)
        if self.resume:
            require_file(self.path, id="resume", remedy="train without --resume first")
            engine.add_event_handler(Events.STARTED, self.load)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._within)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self.save)
        self.evaluator.add_event_handler(Events.ITERATION_COMPLETED, self._validating)

    def _start(self, _: Engine) -> None:
        self.stop.watch()
        self.saved_at = time.monotonic()

    def _within(self, engine: Engine) -> None:
        """Save within an epoch where it is time, or where the process shall end, which it then does.

        Not before the gradients of a group of batches have made their step: they are not saved.
        """
        if not position_in_group(engine)[1]:
            return
        stopping, due, kept = self._agreed(engine)
        if due or (stopping and not kept):
            self._write(engine, gather([self._of_this_process()]))
        if stopping:
            self.stop.end(saved=not self.is_new)

    def _validating(self, _: Engine) -> None:
        if self.stop.received and idist.get_world_size() == 1:
            self.stop.end(saved=not self.is_new)

    def _agreed(self, engine: Engine) -> tuple[bool, bool, bool]:
        """Whether any process shall end, whether the first one says that it is time to save, and whether it has a model
        of an earlier training, which a new one that is stopped leaves.
        """
        last = engine.state.iteration % engine.state.epoch_length == 0  # type: ignore[operator]
        due = time.monotonic() - self.saved_at > (min(LONG, self.seconds) if last else self.seconds)
        kept = self.is_new and Path(self.best_path).is_file()
        if idist.get_world_size() == 1:
            return self.stop.received, due, kept
        if engine.state.iteration // accumulated(engine) % AGREE and not last:
            return False, False, False
        first = idist.get_rank() == 0
        asked = [self.stop.received, due and first, kept and first]
        answers = torch.tensor(asked, dtype=torch.float32, device=engine.state.device)  # type: ignore[attr-defined]
        stopping, due, kept = idist.all_reduce(answers, "MAX").bool().tolist()  # type: ignore[union-attr]
        return stopping, due, kept

    def _of_this_process(self) -> dict[str, Any]:
        """What differs from process to process within an epoch: sums of losses, running means of norms."""
        modules = {name: item for name, item in self.objects.items() if isinstance(item, torch.nn.Module)}
        several = idist.get_world_size() > 1
        buffers = {name: [b.cpu() for b in module.buffers()] for name, module in modules.items()} if several else {}
        progress = None if self.progress is None else self.progress.state_dict()
        return {"progress": progress, "buffers": buffers}

    def save(self, engine: Engine) -> None:
        """Save the state at the end of an epoch."""
        self._write(engine, [])

    def _write(self, engine: Engine, processes: list[dict[str, Any]]) -> None:
        """Save the state; ``processes``: what each had within the epoch, none at its end."""
        self.saved_at = time.monotonic()
        if self.progress is not None:
            self.progress.require_finite()
        if idist.get_rank() > 0:
            self.is_new = False  # as the first process has it from now on
            return
        best = self.evaluator.state
        at_best = not processes and best.best_metric_epoch == engine.state.epoch  # type: ignore[attr-defined]
        if self.is_new or at_best:
            self._save_model()
        if not processes and self.evaluator.state.epoch == engine.state.epoch:  # which was validated
            self._keep(engine)
        states = {name: item.state_dict() for name, item in self.objects.items()}
        states["best"] = (float(best.best_metric), best.best_metric_epoch)  # type: ignore[attr-defined]
        states["processes"] = processes
        with whole_file(self.path) as part:
            save_tensors(states, part)
        self.best.prune()

    def _keep(self, engine: Engine) -> None:
        known = self.evaluator.state
        metric = known.metrics.get(getattr(known, "key_metric_name", "") or "")
        if metric is not None:
            self.best.offer(self.network, self.settings, metric=float(metric), epoch=engine.state.epoch)

    def _save_model(self) -> None:
        files: dict[str, Path] = {}
        if self.is_new:
            model_file.keep_earlier(self.best_path, beside=[Path(self.path).name, *self.best.files()])
            self.best.clear()
            model_file.path_of(self.best_path).unlink(missing_ok=True)
            files = {name: path for write in self.companions for name, path in self._beside(write())}
        with whole_file(self.best_path) as part:
            save_tensors(self.network.state_dict(), part)
            model_file.write(self.best_path, self.settings, files={**files, Path(self.best_path).name: part})
        self.is_new = False

    def _beside(self, paths: Sequence[str | Path]) -> list[tuple[str, Path]]:
        """Those of ``paths`` that lie beside the network or below, with their names from there."""
        folder = Path(self.best_path).resolve().parent
        inside = [path for path in map(Path, paths) if path.resolve().is_relative_to(folder)]
        return [(path.resolve().relative_to(folder).as_posix(), path) for path in inside]

    def load(self, engine: Engine) -> None:
        """Go on from the file, whose state is that of the end of an epoch or of the middle of one.

        Raises:
            ValueError: the state is of another epoch length, number of processes or rates, holds no state of one of
                the objects, or has gone beyond the epochs that are asked for.
        """
        states = torch.load(self.path, map_location=engine.state.device, weights_only=True)  # type: ignore[attr-defined]
        epochs = engine.state.max_epochs  # the command line's, not the interrupted run's
        length = states["trainer"]["epoch_length"]
        reached = -(-states["trainer"]["iteration"] // length)
        if engine.state.epoch_length not in (None, length):
            raise ValueError(
                f"resume: {self.path!r} has {length} batches an epoch, this training {engine.state.epoch_length}; "
                "pass the batch size, the cases and the number of processes that it had"
            )
        if epochs is not None and reached > epochs:
            raise ValueError(f"epochs: {epochs}; {self.path!r} has reached {reached}; pass --epochs {reached} or more")
        begun = [name for name in ANEW if name in self.objects and name not in states]
        lacking = next((name for name in self.objects if name not in states and name not in begun), None)
        if lacking is not None:
            raise ValueError(
                f"resume: {self.path!r} holds no {lacking!r}, so that it was begun with other options or an earlier "
                "version; pass those options, or train without --resume"
            )
        self._require_same_rates(states)
        for name, item in self.objects.items():
            if name in begun:
                logger.info("%s: holds no %s, which begins anew", self.path, name)
            elif isinstance(item, LRScheduler) and length_of(item.state_dict()) != length_of(states[name]):
                go_to(item, int(states[name]["last_epoch"]))
            else:
                item.load_state_dict(states[name])
        engine.state.max_epochs = epochs
        self.evaluator.state.best_metric, self.evaluator.state.best_metric_epoch = states["best"]  # type: ignore[attr-defined]
        if states.get("processes"):
            self._go_on_within(engine, states["processes"])

    def _require_same_rates(self, states: dict[str, Any]) -> None:
        """Refuse learning rates and weight decays other than those that the state goes on with."""
        for name, item in self.objects.items():
            if not isinstance(item, Optimizer) or name not in states:
                continue
            ours, theirs = (_rates_of(state["param_groups"]) for state in (item.state_dict(), states[name]))
            if ours != theirs:
                raise ValueError(
                    f"resume: {self.path!r} goes on with {theirs} of its {name}, this training has {ours}; pass what "
                    "it had, or train without --resume"
                )

    def _go_on_within(self, engine: Engine, processes: list[dict[str, Any]]) -> None:
        """Go on within the epoch that was interrupted; one that had all its steps is validated and saved."""
        if len(processes) != idist.get_world_size():
            raise ValueError(
                f"resume: {self.path!r} was saved within an epoch by {len(processes)} processes; start as many, not "
                f"{idist.get_world_size()}"
            )
        mine = processes[idist.get_rank()]
        if self.progress is not None:
            self.progress.load_state_dict(mine["progress"])
        for name, values in mine["buffers"].items():
            for buffer, value in zip(self.objects[name].buffers(), values, strict=True):
                buffer.copy_(value)
        if engine.state.iteration % engine.state.epoch_length == 0:  # type: ignore[operator]
            engine.fire_event(Events.EPOCH_COMPLETED)


def _rates_of(groups: list[dict[str, Any]]) -> str:
    """The highest learning rate and the weight decay of each group of an optimizer's parameters, in words."""
    highest = [group.get("max_lr", group.get("initial_lr", group["lr"])) for group in groups]
    decays = [group.get("weight_decay", 0.0) for group in groups]
    return f"learning rates {highest} and weight decays {decays}"
