"""The four phases of the training and the gate of the last one (our completion).

0 image only; 1 full report, until validation Dice levels off; 2 half full report, half random dropout; 3 the game of
segmenter and keyword generator, entered only when the report helps: else there is nothing to explain.
"""

from __future__ import annotations

import logging
from enum import IntEnum

from ignite.engine import Engine, Events

logger = logging.getLogger(__name__)
STATE = ("epoch", "entered", "rose", "best", "gain")


class Phase(IntEnum):
    IMAGE_ONLY = 0
    FULL_REPORT = 1
    DROPOUT = 2
    GAME = 3


class PhaseSchedule:
    """Which phase an epoch belongs to: looks at each validation, and moves on as the trainer's next epoch starts.

    Args:
        image_only, full_report, dropout: epochs of the first three phases, the second's at most; the game has the rest.
        patience: the full-report phase ends when validation Dice has not risen for so many epochs, validated or not.
        gate: the game starts once validation Dice with the report exceeds Dice without by more; until then the
            third phase goes on, and the log says so.
        settle: epochs of the game before the best network is chosen anew: the generator has then learned something.
        last: the training stays below or at this phase (an ablation).
        evaluator: ``dice`` and ``dice_without_report`` decide; its best is forgotten as the game starts.

    Raises:
        ValueError: a negative number of epochs.
    """

    def __init__(
        self,
        *,
        evaluator: Engine,
        image_only: int = 2,
        full_report: int = 20,
        dropout: int = 5,
        patience: int = 5,
        gate: float = 0.1,
        settle: int = 2,
        last: int = 3,
    ) -> None:
        for name, epochs in (("image_only", image_only), ("full_report", full_report), ("dropout", dropout)):
            if epochs < 0:
                raise ValueError(f"{name}: {epochs} epochs; expected 0 or more")
        self.limits = {Phase.IMAGE_ONLY: image_only, Phase.FULL_REPORT: full_report, Phase.DROPOUT: dropout}
        self.evaluator, self.patience, self.gate, self.settle, self.last = (
            evaluator,
            patience,
            gate,
            settle,
            Phase(last),
        )
        self.phase, self.best, self.gain = Phase.IMAGE_ONLY, 0.0, 0.0
        self.epoch, self.entered, self.rose = 0, 0, 0  # epochs done; those before this phase; those at the last rise
        self._skip_empty()
        evaluator.add_event_handler(Events.COMPLETED, self.observe)

    @property
    def epochs(self) -> int:
        """Epochs of this phase that are done, whether they were validated or not."""
        return self.epoch - self.entered

    @property
    def since(self) -> int:
        """Epochs of this phase since validation Dice rose."""
        return self.epoch - max(self.rose, self.entered)

    def attach(self, trainer: Engine) -> None:
        trainer.add_event_handler(Events.EPOCH_STARTED, self.advance)

    def observe(self, evaluator: Engine) -> None:
        """Remember whether Dice rose in the epoch that this validation ends, and what the report brings."""
        metrics = evaluator.state.metrics
        self.gain = float(metrics["dice"] - metrics["dice_without_report"])
        if metrics["dice"] > self.best:
            self.best, self.rose = float(metrics["dice"]), self.epoch + 1

    def advance(self, trainer: Engine) -> None:
        """Go to the next phase if the last epoch ended this one; the state of the last epoch is saved by then."""
        self.epoch = trainer.state.epoch - 1
        if self.phase == Phase.GAME and self.epochs == self.settle:
            self._forget_best()
        while self._is_over():
            self._enter(Phase(self.phase + 1), trainer)

    def state_dict(self) -> dict:
        return {name: getattr(self, name) for name in STATE} | {"phase": int(self.phase)}

    def load_state_dict(self, state: dict) -> None:
        for name in STATE:
            setattr(self, name, state[name])
        self.phase = Phase(state["phase"])

    def _is_over(self) -> bool:
        if self.phase >= self.last or self.phase == Phase.GAME:
            return False
        done = self.epochs >= self.limits[self.phase]
        if self.phase == Phase.FULL_REPORT:
            return done or self.since >= self.patience
        if self.phase == Phase.DROPOUT and done and self.gain <= self.gate:
            logger.warning(
                "the report's gain on validation is %.3f, not above gate=%.3f: the keyword game does not start yet",
                self.gain,
                self.gate,
            )
            return False
        return done

    def _enter(self, phase: Phase, trainer: Engine) -> None:
        logger.info("epoch %d leaves phase %s for %s", trainer.state.epoch, self.phase.name, phase.name)
        self.phase, self.entered = phase, self.epoch
        if phase in (Phase.DROPOUT, Phase.GAME):
            self._forget_best()

    def _forget_best(self) -> None:
        """A network chosen in an earlier phase would have an untrained generator."""
        self.evaluator.state.best_metric, self.evaluator.state.best_metric_epoch = -1, -1  # type: ignore[attr-defined]

    def _skip_empty(self) -> None:
        while self.phase < self.last and self.phase != Phase.GAME and self.limits[self.phase] == 0:
            self.phase = Phase(self.phase + 1)
