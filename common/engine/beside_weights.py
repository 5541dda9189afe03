"""Numbers that were fitted to a network and lie beside its weights, which they name by their digest."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from math import isfinite
from pathlib import Path
from typing import Any

from common.cli.atomic import write_json
from common.cli.trained import digest_of
from common.engine.distributed import is_first

logger = logging.getLogger(__name__)


def save_numbers(path: Path, numbers: Mapping[str, float], *, weights: str) -> None:
    """Write ``numbers`` of the network ``weights`` to ``path``."""
    write_json(path, {"weights": digest_of(Path(weights)), **numbers}, indent=1)


def save_fit(what: str, path: Path, fit: Callable[[], Any], *, weights: str) -> Any:
    """Write to ``path`` the named numbers that ``fit`` fits to the network ``weights``; None on all processes but one.

    Raises:
        ValueError: nothing could be fitted; what is there stays.
    """
    if not is_first():
        return None
    try:
        fitted = fit()
    except ValueError as error:
        raise ValueError(f"{what}: not fitted ({error})") from error
    save_numbers(path, fitted._asdict(), weights=weights)
    return fitted


def read_numbers(
    path: Path, *, weights: str, anew: str, valid: Callable[[dict[str, float]], bool]
) -> dict[str, float] | None:
    """What ``path`` holds of ``weights``; None where it is not there, or of other weights, with a warning.

    Args:
        anew: how the file is made.
        valid: whether numbers can be what it holds.

    Raises:
        ValueError: the file is damaged.
    """
    if not path.is_file() or not Path(weights).is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        digest = content.pop("weights")
        whole = all(isinstance(value, int | float) and isfinite(value) for value in content.values())
        whole = whole and valid(content)
    except (ValueError, TypeError, KeyError, AttributeError):
        whole = False
    if not whole:
        raise ValueError(f"{str(path)!r} is damaged; make it anew: {anew}")
    if digest != digest_of(Path(weights)):
        logger.warning("%s belongs to other weights and is not used; make it anew: %s", path, anew)
        return None
    return content
