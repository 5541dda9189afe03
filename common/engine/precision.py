"""The numbers that a network computes in: float32, or a half float by autocast where ``amp`` says so."""

from __future__ import annotations

import logging

import torch
from ignite.engine import Engine, Events

from common.engine.steps import position_in_group

logger = logging.getLogger(__name__)
HALVES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
EVERY = 100  # steps between two looks at the scale
LEAST = 2.0**-20  # a scale below which it is not the numbers' range that makes gradients infinite


def half_of(amp: bool | str) -> torch.dtype | None:
    """The half float that ``amp`` names; None: float32.

    Args:
        amp: false, "bfloat16" (or true), or "float16", whose small gradients need :class:`ScaledLoss`.

    Raises:
        ValueError: another word.
    """
    if isinstance(amp, bool):
        return torch.bfloat16 if amp else None
    if amp not in HALVES:
        raise ValueError(f"amp: {amp!r} is none of true, false, {', '.join(HALVES)}; pass one of them")
    return HALVES[amp]


def autocast(device: torch.device | str, amp: bool | str) -> torch.autocast:
    """Autocast on ``device`` to :func:`half_of` ``amp``; one that does nothing for float32."""
    half = half_of(amp)
    return torch.autocast(torch.device(device).type, dtype=half or torch.bfloat16, enabled=half is not None)


class ScaledLoss:
    """Handler of a training in float16: the loss is scaled, so that small gradients are no zeros.

    A step whose gradients overflow is left out, and the scale is halved. Attach it before what saves the state, which
    holds ``scaler``.
    """

    def __init__(self, device: torch.device | str) -> None:
        self.scaler = torch.amp.GradScaler(torch.device(device).type)
        self.told = self.scaler.get_scale()

    def attach(self, engine: Engine) -> None:
        engine.state.scaler = self.scaler  # type: ignore[attr-defined]  # which take_step uses
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._update)
        engine.add_event_handler(Events.ITERATION_COMPLETED(every=EVERY) | Events.EPOCH_COMPLETED, self._look)

    def _update(self, engine: Engine) -> None:
        """Once for all optimizers of a step: their gradients were scaled alike."""
        if position_in_group(engine)[1]:
            self.scaler.update()

    def _look(self, _: Engine) -> None:
        """Now and then, since the scale lies on the device: tell a smaller one.

        Raises:
            ValueError: the gradients are infinite at any scale.
        """
        scale = self.scaler.get_scale()
        if scale < LEAST:
            raise ValueError(
                "amp: 'float16' gives no finite gradient; pass --amp false, and look whether the loss is a number"
            )
        if scale < self.told:
            logger.info("float16: steps whose gradients overflowed were left out; the loss is now scaled by %g", scale)
        self.told = scale


def scaled_loss(device: torch.device | str, amp: bool | str) -> ScaledLoss | None:
    """What ``amp`` needs in training; None where nothing."""
    return ScaledLoss(device) if half_of(amp) == torch.float16 else None
