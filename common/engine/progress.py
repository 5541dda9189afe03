"""One line of progress an epoch: the mean of each loss term, validation metrics, the time; logged and in a file."""

from __future__ import annotations

import csv
import logging
import math
import os
import time
from collections import defaultdict
from typing import Any

import torch
from ignite.engine import Engine, Events

from common.cli.atomic import whole_file
from common.engine.distributed import gather, is_first

logger = logging.getLogger(__name__)
QUIET, FIRST = 60.0, 5.0  # seconds without a line
EVERY = 100  # steps between two looks at the loss, which lies on the device


class EpochLine:
    """Handler of a trainer whose output has ``terms``: name -> scalar. Attach it after the handler that validates.

    Means are taken over all processes; terms are read from their device once an epoch.

    Args:
        evaluator: whose metrics are shown; the key metric first.
        path: a CSV file with a row for each epoch, for the page of curves; a resumed run goes on in it.
        may_overflow: losses may be infinite or no number: in float16, where such steps are left out.
    """

    def __init__(self, *, evaluator: Engine, path: str, may_overflow: bool = False) -> None:
        self.evaluator, self.path, self.may_overflow = evaluator, path, may_overflow
        self.sums: dict[str, torch.Tensor] = {}
        self.counts: dict[str, int] = defaultdict(int)
        self.start, self.goes_on, self.partial = 0.0, False, False

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self._begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._report)
        StepLine(what="epoch").attach(engine)
        StepLine(what="validation").attach(self.evaluator)

    def require_finite(self) -> None:
        """Refuse to go on with weights that are of no use.

        Raises:
            ValueError: a term of this epoch's loss is infinite, or no number.
        """
        for name, total in self.sums.items():
            if not self.may_overflow and not math.isfinite(value := float(total)):
                raise ValueError(
                    f"loss: {name!r} has become {value:g}, and with it the weights, which are not saved; pass a "
                    "smaller --learning_rate, or --amp false where it was on; what was saved before is whole"
                )

    def state_dict(self) -> dict[str, dict]:
        """Sums of the steps that this epoch has had, on this process."""
        return {"sums": {name: float(total) for name, total in self.sums.items()}, "counts": dict(self.counts)}

    def load_state_dict(self, state: dict[str, dict]) -> None:
        """Go on within the epoch that starts next."""
        self.sums = {name: torch.tensor(total, dtype=torch.float64) for name, total in state["sums"].items()}
        self.counts = defaultdict(int, state["counts"])
        self.goes_on, self.start = True, time.perf_counter()

    def _begin(self, _: Engine) -> None:
        if not self.goes_on:
            self.sums.clear()
            self.counts.clear()
        self.partial, self.goes_on, self.start = self.goes_on, False, time.perf_counter()

    def _collect(self, engine: Engine) -> None:
        for name, value in engine.state.output[0]["terms"].items():  # type: ignore[index]
            sums = self.sums.get(name)
            self.sums[name] = value.double() if sums is None else sums.to(value.device) + value.double()
            self.counts[name] += 1

    def _means(self) -> dict[str, float]:
        """Mean of each term over the epoch's steps of every process."""
        parts = gather([(name, float(total), self.counts[name]) for name, total in self.sums.items()])
        names = dict.fromkeys(name for name, _, _ in parts)
        parts_of = {name: [part for part in parts if part[0] == name] for name in names}
        return {name: sum(p[1] for p in rows) / sum(p[2] for p in rows) for name, rows in parts_of.items()}

    def _report(self, engine: Engine) -> None:
        means = self._means()
        self.goes_on = False
        if not is_first():
            return
        terms = " ".join(f"{name} {value:.3f}" for name, value in means.items())
        metrics = " ".join(f"{name} {value:.3f}" for name, value in self.evaluator.state.metrics.items())
        seconds, epoch = time.perf_counter() - self.start, engine.state.epoch
        last = engine.state.max_epochs or epoch
        rest = f", {duration(seconds * (last - epoch))} left" if epoch < last and not self.partial else ""
        logger.info("epoch %d/%d | loss %s | validation %s | %.1f s%s", epoch, last, terms, metrics, seconds, rest)
        row = {f"loss {name}": value for name, value in means.items()}
        row |= {f"validation {name}": value for name, value in self.evaluator.state.metrics.items()}
        self._write(engine.state.epoch, row)

    def _write(self, epoch: int, row: dict[str, float]) -> None:
        """Rewrite the file with this epoch's row at its end; loss terms may come and go between epochs."""
        known = [earlier for earlier in read_history(self.path) if earlier["epoch"] < epoch] if epoch > 1 else []
        rows = [{**earlier, "epoch": int(earlier["epoch"])} for earlier in [*known, {"epoch": epoch, **row}]]
        names = list(dict.fromkeys(name for known in rows for name in known))
        with whole_file(self.path) as part, open(part, "w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, names)
            writer.writeheader()
            writer.writerows(rows)


class FiniteLoss:
    """Handler of a trainer: :meth:`EpochLine.require_finite`, now and then; attach it before what validates."""

    def __init__(self, line: EpochLine) -> None:
        self.line = line

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.ITERATION_COMPLETED(every=EVERY) | Events.EPOCH_COMPLETED, self._look)

    def _look(self, _: Engine) -> None:
        self.line.require_finite()


class BestLine:
    """Handler of a trainer: as it ends, which epoch was the best, and where its network lies."""

    def __init__(self, *, evaluator: Engine, weights: str) -> None:
        self.evaluator, self.weights = evaluator, weights

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.COMPLETED, self._tell)

    def _tell(self, _: Engine) -> None:
        state: Any = self.evaluator.state
        if is_first() and state.best_metric_epoch > 0:
            told = f"{state.key_metric_name} {state.best_metric:.3f} in epoch {state.best_metric_epoch}"
            logger.info("done; best validation %s; its weights: %s", told, self.weights)


class StepLine:
    """Handler: after 5, 10, 20, ... seconds of an epoch, at last every :data:`QUIET`, how far it is and how long the
    rest will take; in the first of several epochs, how long all of them will take, too.
    """

    def __init__(self, *, what: str) -> None:
        self.what, self.began, self.told, self.first, self.quiet = what, 0.0, 0.0, 0, FIRST

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self._begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._tell)

    def _begin(self, engine: Engine) -> None:
        self.began = self.told = time.monotonic()
        self.quiet = FIRST
        self.first = engine.state.iteration  # of an epoch that goes on, the batches that it had

    def _tell(self, engine: Engine) -> None:
        now, length = time.monotonic(), engine.state.epoch_length
        if now - self.told < min(self.quiet, QUIET) or not length:
            return
        self.told, self.quiet = now, 2 * self.quiet
        done = (engine.state.iteration - 1) % length + 1
        if done == length:  # the end says so itself
            return
        each, epochs = (now - self.began) / (engine.state.iteration - self.first), engine.state.max_epochs or 1
        several = f" {engine.state.epoch}" if epochs != 1 else ""
        text = f"{self.what}{several}: batch {done} of {length}, {duration(each * (length - done))} left"
        if epochs > 1 and engine.state.epoch == 1:
            text += f"; {duration(each * length * epochs)} for all {epochs} epochs, without validation"
        logger.info(text)


def duration(seconds: float) -> str:
    """``seconds`` in words: "40 s", "12 min", "3.5 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def read_history(path: str) -> list[dict[str, float]]:
    """Rows that :class:`EpochLine` wrote to ``path``, without what an epoch lacks; none if there is no file."""
    if not os.path.isfile(path):
        return []
    with open(path, newline="", encoding="utf-8") as file:
        rows = [{name: parse_number(value) for name, value in row.items() if name} for row in csv.DictReader(file)]
    known = [{name: value for name, value in row.items() if value is not None} for row in rows]
    return [row for row in known if "epoch" in row]


def parse_number(text: object) -> float | None:
    """The number that ``text`` holds, None if it holds none."""
    try:
        return float(str(text))
    except ValueError:
        return None
