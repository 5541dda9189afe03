"""The numbers that a network computes in: float32, or a half float by autocast where ``amp`` says so."""

from __future__ import annotations

import torch

HALVES = {"bfloat16": torch.bfloat16, "float16": torch.float16}


def half_of(amp: bool | str) -> torch.dtype | None:
    """The half float that ``amp`` names; None: float32.

    Args:
        amp: false, "bfloat16" (or true), or "float16", whose small gradients need :func:`scaler_of`.

    Raises:
        ValueError: another word.
    """
    if isinstance(amp, bool):
        return torch.bfloat16 if amp else None
    if amp not in HALVES:
        raise ValueError(f"amp: {amp!r} is none of true, false, {', '.join(HALVES)}")
    return HALVES[amp]


def autocast(device: torch.device | str, amp: bool | str) -> torch.autocast:
    """Autocast on ``device`` to :func:`half_of` ``amp``; one that does nothing for float32."""
    half = half_of(amp)
    return torch.autocast(torch.device(device).type, dtype=half or torch.bfloat16, enabled=half is not None)


def scaler_of(device: torch.device | str, amp: bool | str) -> torch.amp.GradScaler | None:
    """What scales a loss so that its gradients are no zeros in float16; None where there is no need to."""
    return torch.amp.GradScaler(torch.device(device).type) if half_of(amp) == torch.float16 else None
