"""The folder that an engine writes to is its own while it runs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from ignite import distributed as idist
from ignite.engine import Engine, Events

from common.cli.lock import FolderLock

logger = logging.getLogger(__name__)


def _nothing() -> None:
    """What there is to release beside the lock, in most runs."""


def tell_replaced(file: Path) -> None:
    """Say whose results take the place of others: ``file`` is what every run of its kind writes."""
    if idist.get_rank() == 0 and file.is_file():
        made = datetime.fromtimestamp(file.stat().st_mtime).strftime("%Y-%m-%d %H:%M")
        logger.info("results of %s in %s: replaced where names are the same", made, file.parent)


def lock_while_running(engine: Engine, folder: str | Path, *, release: Callable[[], None] = _nothing) -> None:
    """Take the lock of ``folder`` as ``engine`` starts, in the first of several processes; release it at its end.

    Args:
        release: called at the end, too, in every process, whether ``engine`` fails or not.

    Raises:
        ValueError: as it starts, where another run has it.
    """
    lock = FolderLock(folder) if idist.get_rank() == 0 else None

    def end() -> None:
        if lock is not None:
            lock.release()
        release()

    if lock is not None:
        engine.add_event_handler(Events.STARTED, lambda _: lock.take())
    engine.add_event_handler(Events.COMPLETED, lambda _: end())

    @engine.on(Events.EXCEPTION_RAISED)
    def fail(_: Engine, error: BaseException) -> None:
        end()
        raise error
