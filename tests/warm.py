"""``python -m monai.bundle`` in a fork of this process, which has imported MONAI: half a second in place of eight."""

from __future__ import annotations

import functools
import gc
import importlib
import inspect
import logging
import os
import pkgutil
import runpy
import socket
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import monai.utils.module
from monai.bundle.config_item import ComponentLocator
from PIL import Image

from common.results import blocks, charts

ROOT = Path(__file__).resolve().parents[1]


class Done(NamedTuple):
    """A command that ended, as :func:`subprocess.run` tells it."""

    returncode: int
    stdout: str
    stderr: str


class Running:
    """``python -m MODULE ARGUMENTS`` that runs in a fork of this process."""

    def __init__(
        self,
        arguments: Sequence[object],
        *,
        module: str = "monai.bundle",
        cwd: Path = ROOT,
        before: Callable[[], None] = lambda: None,
    ) -> None:
        warm_up()
        self.folder = tempfile.TemporaryDirectory()
        self.files = [Path(self.folder.name) / name for name in ("stdout", "stderr")]
        gc.freeze()  # what lives here is no garbage of the child: it need not be looked through
        self.child = os.fork()
        if self.child == 0:
            _run(module, [str(argument) for argument in arguments], cwd, self.files, before)

    def wait(self, timeout: float = 280) -> Done:
        """What it came to.

        Raises:
            TimeoutError: it was ended after ``timeout`` seconds.
        """
        code = _wait(self.child, timeout)
        done = Done(code, *(file.read_text(encoding="utf-8", errors="replace") for file in self.files))
        self.folder.cleanup()
        return done


@functools.cache
def warm_up() -> None:
    """Import all code of this repository and what it uses: each command would, in its fork."""
    for name in ("common", *sorted(path.name for path in (ROOT / "bundles").iterdir())):
        for module in pkgutil.walk_packages(importlib.import_module(name).__path__, f"{name}."):
            importlib.import_module(module.name)
    for module in ("fire", "torch.utils.serialization"):
        importlib.import_module(module)
    Image.init()
    inspect.getmodule(compile("", "<no file>", "exec"))  # finds the files of all modules, once
    locator = ComponentLocator()
    components = locator._find_classes_or_functions(locator._find_module_names())
    ComponentLocator._find_module_names = lambda self: []  # MONAI's parts do not change
    ComponentLocator._find_classes_or_functions = lambda self, modules: components
    monai.utils.module.damerau_levenshtein_distance = lambda *_: 9  # for hints at ids that a config lacks, unseen
    blocks.render(
        "", [blocks.Section("", [blocks.chart(charts.curves("loss", ["loss"], [{"epoch": 1.0, "loss": 1.0}]), "")])]
    )


def monai_bundle(*arguments: object, cwd: Path = ROOT, before: Callable[[], None] = lambda: None) -> Done:
    """Run ``python -m monai.bundle ARGUMENTS`` in ``cwd``, after ``before`` in the same new process."""
    return Running(arguments, cwd=cwd, before=before).wait()


def alone() -> None:
    """``before`` of a fork: it knows no code of this repository but what lies in its folder."""
    sys.meta_path = [finder for finder in sys.meta_path if "editable" not in getattr(finder, "__module__", "")]
    sys.path = [
        path
        for path in sys.path
        if path == os.getcwd() or "site-packages" in path or not Path(path or ".").resolve().is_relative_to(ROOT)
    ]
    bundles = {path.name for path in (ROOT / "bundles").iterdir()}
    for name in [name for name in sys.modules if name.split(".")[0] in {"common", *bundles}]:
        del sys.modules[name]


def on_ranks(count: int, *arguments: object, cwd: Path = ROOT, before: Callable[[], None] = lambda: None) -> list[Done]:
    """Run it as ``count`` processes of torchrun; what each came to."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    def as_rank(rank: int) -> Callable[[], None]:
        values = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": count, "LOCAL_WORLD_SIZE": count,
                  "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}  # fmt: skip
        return lambda: (os.environ.update({name: str(value) for name, value in values.items()}), before())

    running = [Running(arguments, cwd=cwd, before=as_rank(rank)) for rank in range(count)]
    return [command.wait() for command in running]


def _run(module: str, arguments: list[str], cwd: Path, files: list[Path], before: Callable[[], None]) -> None:
    """The child: never returns."""
    code = 1
    try:
        for number, file in enumerate(files, start=1):
            os.dup2(os.open(file, os.O_WRONLY | os.O_CREAT), number)
        sys.stdout, sys.stderr = (os.fdopen(number, "w", closefd=False) for number in (1, 2))
        sys.__stdout__, sys.__stderr__ = sys.stdout, sys.stderr
        _redirect_logs()
        os.chdir(cwd)
        sys.path.insert(0, str(cwd))
        sys.argv = [module, *arguments]
        sys.excepthook = sys.__excepthook__
        inspect.stack = _frames  # Fire asks who called it, and not for files and lines, which all modules are asked for
        sys.modules.pop("common.cli.at_start", None)  # a new process has not imported it
        before()
        runpy.run_module(module, run_name="__main__", alter_sys=True)
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


def _frames() -> list[tuple[FrameType]]:
    """The frame of who calls, and of those who called it: the first fields of :func:`inspect.stack`."""
    return [(frame,) for frame, _ in traceback.walk_stack(sys._getframe(1))]


def _redirect_logs() -> None:
    """Handlers that this process made, at imports, write to where the child's prints go."""
    loggers = [
        logging.root,
        *(log for log in logging.root.manager.loggerDict.values() if isinstance(log, logging.Logger)),
    ]
    for handler in (handler for log in loggers for handler in log.handlers):
        if type(handler) is logging.StreamHandler:
            handler.setStream(sys.stdout)


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
