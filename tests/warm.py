"""``python -m monai.bundle`` in a fork of this process, which has imported MONAI: half a second in place of eight."""

from __future__ import annotations

import os
import runpy
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]


class Done(NamedTuple):
    """A command that ended, as :func:`subprocess.run` tells it."""

    returncode: int
    stdout: str
    stderr: str


def monai_bundle(*arguments: object, cwd: Path = ROOT, timeout: float = 280) -> Done:
    """Run ``python -m monai.bundle ARGUMENTS`` in ``cwd``."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("stdout", "stderr")]
        child = os.fork()
        if child == 0:
            _run([str(argument) for argument in arguments], cwd, files)
        code = _wait(child, timeout)
        return Done(code, *(file.read_text(encoding="utf-8", errors="replace") for file in files))


def _run(arguments: list[str], cwd: Path, files: list[Path]) -> None:
    """The child: never returns."""
    code = 1
    try:
        for number, file in enumerate(files, start=1):
            os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
        sys.__stdout__, sys.__stderr__ = sys.stdout, sys.stderr
        os.chdir(cwd)
        sys.path.insert(0, str(cwd))
        sys.argv = ["monai.bundle", *arguments]
        sys.excepthook = sys.__excepthook__
        sys.modules.pop("common.at_start", None)  # a new process has not imported it
        runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)
        code = 0
    except SystemExit as stopped:
        code = stopped.code if isinstance(stopped.code, int) else 0 if stopped.code is None else 1
        if isinstance(stopped.code, str):
            sys.stderr.write(f"{stopped.code}\n")
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _wait(child: int, timeout: float) -> int:
    until = time.monotonic() + timeout
    while time.monotonic() < until:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, 9)
    os.waitpid(child, 0)
    raise TimeoutError(f"still running after {timeout} s")
