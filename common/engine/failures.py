"""What inference leaves out: one file that cannot be read or written is named, and does not end a folder's run."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from common.cli.atomic import write_json
from common.engine.distributed import gather, is_first

logger = logging.getLogger(__name__)


def line_of(error: BaseException) -> str:
    """What an error says, in one line; its kind where it says nothing."""
    return next(iter(str(error).splitlines()), "") or type(error).__name__


class NoNumberError(ValueError):
    """A network's answer is no number."""


def require_numbers(name: str, answer: Mapping[str, Any]) -> None:
    """Refuse what a network answers to the case ``name`` where it is no number: it would be shown as "nothing found".

    Raises:
        NoNumberError: which value it is, and where it may come from.
    """
    for key, value in answer.items():
        if isinstance(value, torch.Tensor) and value.is_floating_point() and bool(value.isnan().any()):
            raise NoNumberError(
                f"{name!r}: the network's answer is no number (NaN in {key}); its weights are damaged, or half floats "
                "(amp) are too coarse for them; restore the weights, or leave amp off"
            )


class Failures(threading.local):
    """Names and reasons, in the order in which they came; of each thread its own: two models do not mix theirs."""

    def __init__(self) -> None:
        self.reasons: dict[str, str] = {}

    def add(self, name: str, reason: str) -> None:
        """Remember that ``name`` was left out, and say so at once."""
        self.reasons[name] = reason
        logger.error("left out: %s", reason)

    def take(self) -> dict[str, str]:
        """All of them by name; they are forgotten."""
        reasons, self.reasons = self.reasons, {}
        return reasons

    def finish(self, folder: Path) -> None:
        """Write ``failures.json``, of all processes, to ``folder``, or remove a former run's; forget all.

        Raises:
            ValueError: something was left out; in one line, so that the command's exit code tells.
        """
        reasons = dict(gather(list(self.take().items())))
        file = folder / "failures.json"
        if is_first():
            _write(file, reasons)
        if not reasons:
            return
        first = next(iter(reasons.values()))
        raise ValueError(f"{len(reasons)} left out, named in {str(file)!r}; the others are done; the first: {first}")


def _write(file: Path, reasons: dict[str, str]) -> None:
    if not reasons:
        file.unlink(missing_ok=True)
        return
    write_json(file, reasons, indent=2)


FAILURES = Failures()  # what lists the cases and what writes the results do not meet
