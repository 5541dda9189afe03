"""One run writes to a folder at a time."""

from __future__ import annotations

import fcntl
import os
import re
from pathlib import Path
from typing import IO

NAME = ".in-use"
PART = re.compile(r".*\.(\d+)\.part(\..*)?")  # of common.cli.atomic.whole_file


class FolderLock:
    """A lock on a folder, free again when it is released or its process has ended, however that was."""

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder) / NAME
        self.file: IO[str] | None = None

    def take(self) -> None:
        """Take it, and remove what killed runs left half written.

        Raises:
            ValueError: another run has it.
        """
        self.path.parent.mkdir(parents=True, exist_ok=True)
        file = self._locked()
        while not self._is_there(file):  # another run released it, and with it removed the file, before we had it
            file.close()
            file = self._locked()
        file.truncate(0)
        file.write(f"process {os.getpid()}")
        file.flush()
        self.file = file
        for part in self.path.parent.iterdir():
            left = PART.fullmatch(part.name)
            if left is not None and not _is_alive(int(left[1])):
                part.unlink(missing_ok=True)

    def _locked(self) -> IO[str]:
        file = open(self.path, "a+", encoding="utf-8")  # noqa: SIM115  (open as long as the lock is held)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            owner = file.read().strip() or "another run"
            file.close()
            raise ValueError(f"{str(self.path.parent)!r} is in use by {owner}; wait, or pass another folder") from error
        return file

    def _is_there(self, file: IO[str]) -> bool:
        """Whether ``file`` is what others open by the lock's name."""
        try:
            return os.path.samestat(os.fstat(file.fileno()), self.path.stat())
        except FileNotFoundError:
            return False

    def release(self) -> None:
        """Let others take it."""
        if self.file is not None:
            self.path.unlink(missing_ok=True)
            self.file.close()
            self.file = None


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
