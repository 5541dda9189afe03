"""One line of progress an epoch: the mean of each loss term, the validation's metrics, the time."""

from __future__ import annotations

import logging
import time
from collections import defaultdict

from ignite import distributed as idist
from ignite.engine import Engine, Events

logger = logging.getLogger(__name__)


class EpochLine:
    """Handler of a trainer whose output has ``terms``: name -> float. Attach it after the handler that validates.

    Args:
        evaluator: whose metrics are shown; the key metric first.
    """

    def __init__(self, *, evaluator: Engine) -> None:
        self.evaluator = evaluator
        self.values: dict[str, list[float]] = defaultdict(list)
        self.start = 0.0

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_STARTED, self._begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._report)

    def _begin(self, _: Engine) -> None:
        self.values.clear()
        self.start = time.perf_counter()

    def _collect(self, engine: Engine) -> None:
        for name, value in engine.state.output["terms"].items():  # type: ignore[index]
            self.values[name].append(value)

    def _report(self, engine: Engine) -> None:
        if idist.get_rank() > 0:
            return
        terms = " ".join(f"{name} {sum(v) / len(v):.3f}" for name, v in self.values.items())
        metrics = " ".join(f"{name} {value:.3f}" for name, value in self.evaluator.state.metrics.items())
        seconds = time.perf_counter() - self.start
        logger.info(
            "epoch %d/%d | loss %s | validation %s | %.1f s",
            engine.state.epoch,
            engine.state.max_epochs,
            terms,
            metrics,
            seconds,
        )
