"""When a training is validated."""

from __future__ import annotations

from ignite.engine import Engine, Events
from monai.handlers import ValidationHandler


class ValidateEvery(ValidationHandler):
    """MONAI's handler, after every ``interval`` epochs, and after the last, which nothing else would judge."""

    def attach(self, engine: Engine) -> None:
        def is_due(engine: Engine, epoch: int) -> bool:
            return epoch % self.interval == 0 or epoch == engine.state.max_epochs

        engine.add_event_handler(Events.EPOCH_COMPLETED(event_filter=is_due), self)
