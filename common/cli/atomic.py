"""Files and folders written whole or not at all, and never in place of what we did not write."""

from __future__ import annotations

import csv
import errno
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # no room: on the disk, of one's share, for one file


@contextmanager
def whole_file(path: str | Path) -> Iterator[Path]:
    """A file to write to, beside ``path`` and of the same ending, which takes its place where nothing fails.

    The error of a full disk, which names no file, names ``path``.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.{os.getpid()}.part{''.join(target.suffixes[-1:])}")
    try:
        yield part
        os.replace(part, target)
    except OSError as error:
        if error.errno in FULL and error.filename is None:
            error.filename = str(target)
        raise
    finally:
        part.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` in UTF-8, whole or not at all; bytes of a file's name that are no text become an escape."""
    with whole_file(path) as part:
        part.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_json(path: str | Path, content: Any, *, indent: int | None = None) -> None:
    """Write ``content`` as JSON, whole or not at all."""
    write_text(path, json.dumps(content, ensure_ascii=False, indent=indent))


def write_rows(path: str | Path, rows: Iterable[Sequence[Any]]) -> None:
    """Write ``rows`` as CSV in UTF-8, whole or not at all."""
    with whole_file(path) as part, open(part, "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        csv.writer(file).writerows(rows)


def write_picture(path: str | Path, picture: Image.Image) -> None:
    """Write ``picture`` as PNG, whole or not at all; at level 1, since Pillow's 6 takes five times as long."""
    with whole_file(path) as part:
        picture.save(part, format="PNG", compress_level=1)


@contextmanager
def whole_folder(root: str) -> Iterator[Path]:
    """A folder to write to, which becomes ``root`` at the end; where something fails, no ``root`` is left."""
    Path(root).parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=Path(root).parent) as scratch:
        folder = Path(scratch) / "set"
        yield folder
        try:
            os.rename(folder, root)
        except OSError:
            if not os.path.isdir(root):  # else another process (a second rank) was faster: its data are the same
                raise


MANIFEST = ".written-here.json"  # the files of a folder that we made, and the digests of what we wrote


def require_own(folder: str | Path, *, id: str) -> None:
    """Refuse a ``folder`` that we must not replace; one that is empty or missing is free.

    Args:
        id: what the folder was given as.

    Raises:
        ValueError: ``folder`` is a file, or holds one that :func:`replace_folder` did not write.
    """
    path = Path(folder)
    if path.exists() and not path.is_dir():
        raise ValueError(f"{id}: {str(folder)!r} is a file; pass a new or empty folder")
    foreign = sorted(_files(path) - _written(path) - {MANIFEST})
    if foreign:
        raise ValueError(
            f"{id}: {str(folder)!r} holds {foreign[0]!r}, which was not made here and stays; pass a new or empty folder"
        )


def replace_folder(part: str | Path, folder: str | Path, *, id: str) -> None:
    """Put the finished folder ``part``, made by :func:`folder_beside`, in the place of ``folder``.

    Raises:
        ValueError: what :func:`require_own` refuses.
    """
    require_own(folder, id=id)
    written = {name: _digest(Path(part) / name) for name in sorted(_files(Path(part)))}
    (Path(part) / MANIFEST).write_text(json.dumps(written, indent=1), encoding="utf-8")
    target = Path(folder).resolve()
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=f"{target.name}.", suffix=".old") as old:
        if target.is_dir():
            os.replace(target, Path(old) / target.name)
        os.replace(part, target)


def folder_beside(folder: str | Path) -> Path:
    """A new empty folder beside ``folder``, of this process alone, to write what :func:`replace_folder` moves."""
    target = Path(folder).resolve()
    target.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(dir=target.parent, prefix=f"{target.name}.", suffix=".part"))
    part.chmod(0o777 & ~_umask())
    return part


def discard(part: Path) -> None:
    """Remove what :func:`folder_beside` made, where it was not moved."""
    shutil.rmtree(part, ignore_errors=True)


def _files(folder: Path) -> set[str]:
    """Everything in ``folder`` but plain folders, relative to it."""
    paths = folder.rglob("*") if folder.is_dir() else ()
    return {str(path.relative_to(folder)) for path in paths if path.is_symlink() or not path.is_dir()}


def _written(folder: Path) -> set[str]:
    """Files of ``folder`` that are as we wrote them; one that was changed since is someone else's."""
    try:
        written = dict(json.loads((folder / MANIFEST).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return set()
    return {name for name in _files(folder) & set(written) if _digest(folder / name) == written[name]}


def _digest(file: Path) -> str:
    if file.is_symlink() or not file.is_file():
        return "no file"
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
