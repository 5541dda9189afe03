"""The folder that an engine writes to is its own while it runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from ignite import distributed as idist
from ignite.engine import Engine, Events

from common.cli.lock import FolderLock


def _nothing() -> None:
    """What there is to release beside the lock, in most runs."""


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
