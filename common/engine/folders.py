"""The folder that an engine writes to is its own while it runs."""

from __future__ import annotations

from pathlib import Path

from ignite import distributed as idist
from ignite.engine import Engine, Events

from common.cli.lock import FolderLock


def lock_while_running(engine: Engine, folder: str | Path) -> None:
    """Take the lock of ``folder`` as ``engine`` starts, in the first of several processes, and release it at its end.

    Raises:
        ValueError: as it starts, where another run has it.
    """
    if idist.get_rank() > 0:
        return
    lock = FolderLock(folder)
    engine.add_event_handler(Events.STARTED, lambda _: lock.take())
    engine.add_event_handler(Events.COMPLETED, lambda _: lock.release())

    @engine.on(Events.EXCEPTION_RAISED)
    def release(_: Engine, error: BaseException) -> None:
        lock.release()
        raise error
