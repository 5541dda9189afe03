"""What ``python -m common.cli.check --manifest`` found out about a data set's files, so that nobody looks again."""

from __future__ import annotations

import functools
import gc
import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from common.cli.reading import MANIFEST, read_json
from common.images.dicom import source_of

logger = logging.getLogger(__name__)
SAMPLED = 64  # files whose size and time are compared
UNKNOWN = -1  # size of a damaged file
DAMAGED = ("reason", "bytes", "mtime")  # what is known of one


class Manifest(NamedTuple):
    """What a manifest tells of its files.

    Attributes:
        digests: ``hash`` of the files' names in rising order.
        sizes, times: bytes and seconds of each.
        damaged: of each file that cannot be used, by name: ``reason``, ``bytes``, ``mtime``.
    """

    digests: np.ndarray
    sizes: np.ndarray
    times: np.ndarray
    damaged: Mapping[str, Mapping[str, Any]]


def names_within(root: str, paths: Iterable[str]) -> Iterator[str]:
    """``paths`` as the manifest of the data set ``root`` names them: relative to it, with slashes."""
    base, absolute = os.path.join(os.path.normpath(root), ""), os.path.join(os.path.abspath(root), "")
    for path in paths:
        name = path[len(base) :] if path.startswith(base) else os.path.abspath(path).removeprefix(absolute)
        yield name.replace(os.sep, "/")


def is_trusted(root: str, paths: Sequence[str]) -> bool:
    """Whether the manifest in ``root`` tells of all ``paths``, and those that are compared are as it has them.

    Compared are size and time of :data:`SAMPLED` of them, and of those that it says are damaged. A file of that name
    that the check did not write is left alone.

    Raises:
        ValueError: by a manifest that is trusted, some of ``paths`` are damaged or missing.
    """
    file = Path(root) / MANIFEST
    if not file.is_file() or not paths:
        return False
    manifest = _read(str(file), file.stat().st_mtime_ns)
    if manifest is None:
        logger.warning("%s: not trusted, it is none that python -m common.cli.check writes", file)
        return False
    names = list(names_within(root, paths))
    reason = _out_of_date(manifest, names, paths)
    if reason:
        logger.warning("%s: not trusted, %s; run python -m common.cli.check again", file, reason)
        return False
    damaged = manifest.damaged.keys() & set(names)
    if damaged:
        raise ValueError(
            f"{file}: {len(damaged)} of {len(paths)} files cannot be used, such as {min(damaged)!r} "
            f"({manifest.damaged[min(damaged)]['reason']}); mend or remove them, or pass --skip_damaged true"
        )
    checked = time.strftime("%Y-%m-%d %H:%M", time.localtime(file.stat().st_mtime))
    compared = min(SAMPLED, len(paths))
    logger.info("%s: %d files, sound on %s; size and time of %d compared", file, len(paths), checked, compared)
    return True


@functools.lru_cache(maxsize=2)
def _read(file: str, _: int) -> Manifest | None:
    """None: another program's file."""
    collects = gc.isenabled()
    try:
        gc.disable()  # it would look through millions of new objects again and again
        content = read_json(file, what="manifest")
        files = content["files"]
        damaged = {name: {key: known[key] for key in DAMAGED} for name, known in content["damaged"].items()}
        sizes = [(hash(name), int(known["bytes"]), float(known["mtime"])) for name, known in files.items()]
    except (TypeError, KeyError, ValueError, AttributeError):
        return None
    finally:
        if collects:
            gc.enable()
    sizes += [(hash(name), UNKNOWN, 0.0) for name in damaged if name not in files]
    digests, lengths, times = (np.array(column) for column in zip(*sizes, strict=True)) if sizes else [np.zeros(0)] * 3
    order = np.argsort(digests)
    return Manifest(digests[order], lengths[order], times[order], damaged)


def _out_of_date(manifest: Manifest, names: Sequence[str], paths: Sequence[str]) -> str:
    """Why ``manifest`` does not tell of the files ``names`` at ``paths`` as they are; "": it does."""
    digests = np.fromiter(map(hash, names), "i8", len(names))
    positions = np.searchsorted(manifest.digests, digests).clip(max=max(len(manifest.digests) - 1, 0))
    known = manifest.digests[positions] == digests if len(manifest.digests) else np.zeros(len(paths), bool)
    if not known.all():
        return f"it lacks {int((~known).sum())} files, such as {paths[int(known.argmin())]!r}"
    for index in np.linspace(0, len(paths) - 1, min(SAMPLED, len(paths))).astype(int):
        size, mtime = int(manifest.sizes[positions[index]]), float(manifest.times[positions[index]])
        if size != UNKNOWN and _size_and_time(paths[index]) != (size, mtime):
            return f"{paths[index]!r} is another file by now"
    for name, path in zip(names, paths, strict=True) if manifest.damaged else ():
        known = manifest.damaged.get(name)
        if known is not None and _size_and_time(path) != (known["bytes"], known["mtime"]):
            return f"{path!r} is another file by now"
    return ""


def _size_and_time(path: str) -> tuple[int, float] | tuple[None, None]:
    try:
        found = os.stat(source_of(path)[0])
    except OSError:
        return None, None
    return found.st_size, found.st_mtime


def manifest_of(
    root: str, sound: Mapping[str, Mapping[str, Any]], damaged: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Content of a manifest, of what is known of each path: ``bytes``, ``mtime``, and what else shall stand there.

    Args:
        damaged: with ``reason``, and None as bytes and time of a file that is missing.
    """
    parts = {"files": sound, "damaged": damaged}
    return {key: dict(zip(names_within(root, part), part.values(), strict=True)) for key, part in parts.items()}


def is_own(file: Path) -> bool:
    """Whether ``file`` may be written: a manifest, or none yet."""
    return not file.exists() or _read(str(file), file.stat().st_mtime_ns) is not None
