"""SIGTERM, as SLURM and spot machines send it before they end a process: a training saves itself first."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from types import FrameType
from typing import Any

logger = logging.getLogger(__name__)
CODE = 128 + signal.SIGTERM
NOTHING_SAVED = "stopped by SIGTERM before anything of this training was saved; a former model is as it was"
STOPPED = "stopped by {}; what was saved is whole; a training goes on with --resume true"


def outlive() -> None:
    """Let this process, which loads data for another, end on SIGTERM from that one alone.

    A cluster sends SIGTERM to every process of a job: where the loaders died first, the training could not save itself.
    """
    if not hasattr(signal, "sigwaitinfo"):  # macOS
        return
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    threading.Thread(target=_wait_for_parent, daemon=True).start()


def _wait_for_parent() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


class StopRequest:
    """Whether SIGTERM has come since :meth:`watch`; it ends nothing until :meth:`end` is called.

    Signals reach a process's main thread alone: a training in another one (a server's) is not asked.
    """

    def __init__(self) -> None:
        self.received = False
        self._former: Any = None

    def watch(self) -> None:
        self.received = False
        if threading.current_thread() is threading.main_thread():
            self._former = signal.signal(signal.SIGTERM, self._receive)

    def release(self) -> None:
        """Let SIGTERM do again what it did before."""
        if self._former is not None:
            signal.signal(signal.SIGTERM, self._former)
            self._former = None

    def end(self, *, saved: bool) -> None:
        """End the process with code 143.

        Args:
            saved: whether anything of this training was.

        Raises:
            SystemExit: always.
        """
        line = STOPPED.format("SIGTERM") if saved else NOTHING_SAVED
        sys.stderr.write(f"{line}\n")
        raise SystemExit(CODE)

    def _receive(self, _: int, __: FrameType | None) -> None:
        self.received = True
        logger.info("SIGTERM: saving what was trained")
