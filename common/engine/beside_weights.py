"""Numbers that were fitted to a network and lie beside its weights, which they name by their digest."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from math import isfinite
from pathlib import Path
from typing import Any, Generic, TypeVar

from ignite.engine import Engine, Events

from common.cli.atomic import write_json
from common.cli.model_file import keep_earlier
from common.cli.trained import digest_of
from common.engine.distributed import is_first

logger = logging.getLogger(__name__)
Fitted = TypeVar("Fitted")


def require_held_out(split: str) -> None:
    """Refuse to fit to images that the network was trained on, or that an evaluation measures.

    Raises:
        ValueError: the split is another than validation.
    """
    if split != "validation":
        raise ValueError(f"split: {split!r} is no split that was held out for this; pass --split validation")


def keep_fitted(path: Path, weights: str) -> None:
    """Keep the network ``weights``, with what is fitted to it, in ``earlier`` if ``path``, which is to be written, is
    of that.
    """
    if path.is_file() and digest_of(Path(weights)).encode() in path.read_bytes():
        keep_earlier(weights)


def save_numbers(path: Path, numbers: Mapping[str, float], *, weights: str) -> None:
    """Write ``numbers`` of the network ``weights`` to ``path``."""
    write_json(path, {"weights": digest_of(Path(weights)), **numbers}, indent=1)


def save_fit(what: str, path: Path, fit: Callable[[], Any], *, weights: str) -> Any:
    """Write to ``path`` the named numbers that ``fit`` fits to the network ``weights``; None on all processes but one.

    Those of the same network that were there are kept with it in the folder ``earlier``.

    Raises:
        ValueError: nothing could be fitted; what is there stays.
    """
    if not is_first():
        return None
    try:
        fitted = fit()
    except ValueError as error:
        raise ValueError(f"{what}: not fitted ({error})") from error
    keep_fitted(path, weights)
    save_numbers(path, fitted._asdict(), weights=weights)
    logger.info("%s: written to %s", what, path)
    return fitted


def read_fit(
    kind: Callable[..., Fitted],
    path: Path,
    *,
    weights: str,
    anew: str,
    valid: Callable[[Fitted], bool] = lambda _: True,
) -> Fitted | None:
    """What ``path`` holds of ``weights``; None where it is not there, or of other weights, with a warning.

    Args:
        kind: a named tuple of numbers.
        anew: how the file is made.
        valid: whether it can be.

    Raises:
        ValueError: the file is damaged.
    """
    if not path.is_file() or not Path(weights).is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        digest = content.pop("weights")
        whole = all(isinstance(value, int | float) and isfinite(value) for value in content.values())
        fitted = kind(**content)
        whole = whole and valid(fitted)
    except (ValueError, TypeError, KeyError, AttributeError):
        whole = False
    if not whole:
        raise ValueError(f"{str(path)!r} is damaged; make it anew: {anew}")
    if digest != digest_of(Path(weights)):
        logger.warning("%s belongs to other weights and is not used; make it anew: %s", path, anew)
        return None
    return fitted


class FittedHandler(Generic[Fitted]):
    """Handler of an evaluation: it collects from each batch and tells at the end, by what was fitted to ``weights``.

    Args:
        weights: file of the network.
        read: what was fitted to it.

    Attributes:
        known: that; None where there is none, or it is being fitted.
        current: what :meth:`_collect` collected, on this process.
    """

    def __init__(self, *, weights: str, read: Callable[[str], Fitted | None]) -> None:
        self.weights, self.read, self.fitting = weights, read, False
        self.known: Fitted | None = None
        self.current: list[Any] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, lambda _: self._begin())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, self._tell)

    def _begin(self) -> None:
        """Read before anything is evaluated: a damaged file ends an evaluation that did nothing yet."""
        self.current.clear()
        self.known = None if self.fitting else self.read(self.weights)

    def _collect(self, engine: Engine) -> None:
        raise NotImplementedError

    def _tell(self, engine: Engine) -> None:
        raise NotImplementedError

    def require_own(self, split: str, reports: str = "own") -> None:
        """Refuse, before anything is evaluated, images that were not held out for this, and reports of others.

        Raises:
            ValueError: the split is another than validation, or the reports are not the images' own.
        """
        require_held_out(split)
        if reports != "own":
            raise ValueError(f"reports: {reports!r} are not the images' own; leave it out")
        self.fitting = True
