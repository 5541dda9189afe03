"""What a command says when it cannot go on: one line for what the user can mend, else where in this project it was."""

from __future__ import annotations

import os
import re
import signal
import sys
import traceback
from pathlib import Path
from types import FrameType, TracebackType

from common.cli.atomic import FULL as NO_ROOM
from common.cli.verbose import is_verbose
from common.engine.stopping import STOPPED

FULL = "FULL_TRACEBACK"  # an environment variable: any value brings the whole traceback back, as --verbose does
NAMED = (FileNotFoundError, PermissionError, IsADirectoryError, NotADirectoryError, FileExistsError)
IN_A_WORKER = re.compile(  # torch hands on the text of what a loader's process met
    r"^Caught .* in DataLoader worker process.*?^((?:FileNotFoundError|ValueError): (?:image|mask)[^\n]*)",
    re.DOTALL | re.MULTILINE,
)
MISFIT = re.compile(r"Error\(s\) in loading state_dict for (\w+):\s*(.*)", re.DOTALL)


def speak_plainly() -> None:
    """Let this process end in one line where it can; SIGTERM ends it as Ctrl-C does, with 143 for its exit code."""
    sys.excepthook = _tell
    signal.signal(signal.SIGTERM, _end)


def _end(number: int, _: FrameType | None) -> None:
    sys.stderr.write(STOPPED.format("SIGTERM") + "\n")
    raise SystemExit(128 + number)


def _tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """Print the cause alone where it is a line that the user can act on: MONAI wraps it in a hundred lines."""
    if os.environ.get(FULL) or is_verbose():
        sys.__excepthook__(kind, error, trace)
        return
    cause = error
    while cause.__cause__ is not None and line_for(cause) is None:
        cause = cause.__cause__
    line = line_for(cause)
    sys.stderr.write(f"{line}\n" if line is not None else _shortened(cause))


def line_for(error: BaseException) -> str | None:
    """One line about ``error``; None where it is a fault of the program."""
    name = type(error).__name__
    if isinstance(error, KeyboardInterrupt):
        return STOPPED.format("Ctrl-C")
    if isinstance(error, OSError) and error.errno in NO_ROOM:
        where = f" of {error.filename!r}" if error.filename else ""
        return f"{name}: the disk{where} is full; what was written before is whole; free some space and run it again"
    if isinstance(error, NAMED) or (isinstance(error, ValueError | RuntimeError) and _is_ours(error)):
        return f"{name}: {error}"
    if (loaded := IN_A_WORKER.search(str(error))) is not None:
        return loaded[1]
    misfit = MISFIT.search(str(error)) if isinstance(error, RuntimeError) else None
    if misfit is not None:
        faults = [line.strip() for line in misfit[2].splitlines() if line.strip()]
        first = f"the weights do not fit {misfit[1]}: {faults[0][:200]} ({len(faults)} such faults)"
        return f"{name}: {first}; pass the options that they were trained with"
    return None


def _is_ours(error: BaseException) -> bool:
    """Whether ``common`` or a bundle's code raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    return bool(frames) and is_ours(frames[-1].filename)


def is_ours(file: str) -> bool:
    """Whether ``file`` belongs to ``common`` or to a bundle."""
    folder = Path(file).parent
    return folder.is_relative_to(Path(__file__).parents[1]) or any(
        (parent / "configs" / "metadata.json").is_file() for parent in list(folder.parents)[:3]
    )


def _shortened(error: BaseException) -> str:
    """The frames of this project and the last one, and then the error."""
    frames = traceback.extract_tb(error.__traceback__)
    kept = [frame for frame in frames[:-1] if is_ours(frame.filename)] + list(frames[-1:])
    head = f"Traceback of this project (all of it: --verbose true, or {FULL}=1):\n"
    return head + "".join(traceback.format_list(kept)) + "".join(traceback.format_exception_only(error))
