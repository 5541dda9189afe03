"""What ``python -m common.cli.check --manifest`` found out about a data set's files, so that nobody looks again."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from common.cli.reading import MANIFEST, read_json
from common.images.dicom import source_of

logger = logging.getLogger(__name__)
SAMPLED = 64  # files whose size and time are compared


class Manifest(NamedTuple):
    """Attributes:
    digests: of the files' names, uint64 in rising order; ``sizes`` (bytes) and ``times`` (seconds) stand beside them.
    damaged: what is wrong with each file that cannot be used, by name.
    """

    digests: np.ndarray
    sizes: np.ndarray
    times: np.ndarray
    damaged: Mapping[str, str]


def name_within(root: str, path: str) -> str:
    """``path`` as the manifest of the data set ``root`` names it: relative to it, with slashes."""
    base = os.path.normpath(root)
    if not path.startswith(base + os.sep):
        base, path = os.path.abspath(root), os.path.abspath(path)
    return path.removeprefix(base + os.sep).replace(os.sep, "/")


def is_trusted(root: str, paths: Sequence[str]) -> bool:
    """Whether the manifest in ``root`` tells of all ``paths``, and :data:`SAMPLED` of them are as it has them.

    Raises:
        ValueError: by a manifest that is trusted, some of ``paths`` are damaged or missing.
    """
    file = Path(root) / MANIFEST
    if not file.is_file() or not paths:
        return False
    manifest = _read(str(file), file.stat().st_mtime_ns)
    reason = _out_of_date(manifest, root, paths)
    if reason:
        logger.warning("%s: not trusted, %s; run python -m common.cli.check again", file, reason)
        return False
    names = {name for path in paths if (name := name_within(root, path)) in manifest.damaged}
    if names:
        raise ValueError(
            f"{file}: {len(names)} of {len(paths)} files cannot be used, such as {min(names)!r} "
            f"({manifest.damaged[min(names)]}); mend or remove them, or pass --skip_damaged true"
        )
    checked = time.strftime("%Y-%m-%d %H:%M", time.localtime(file.stat().st_mtime))
    logger.info("%s: %d files, sound when they were checked on %s", file, len(paths), checked)
    return True


@functools.lru_cache(maxsize=2)
def _read(file: str, _: int) -> Manifest:
    content = read_json(file, what="manifest")
    try:
        files, damaged = content["files"], dict(content["damaged"])
        sizes = [(_digest(name), int(known["bytes"]), float(known["mtime"])) for name, known in files.items()]
    except (TypeError, KeyError, ValueError, AttributeError) as error:
        raise ValueError(
            f"manifest: {file!r} is none that python -m common.cli.check writes; write it again, or remove it"
        ) from error
    sizes += [(_digest(name), -1, 0.0) for name in damaged if name not in files]
    table = np.array(sorted(sizes), dtype=[("digest", "u8"), ("bytes", "i8"), ("mtime", "f8")])
    return Manifest(table["digest"].copy(), table["bytes"].copy(), table["mtime"].copy(), damaged)


def _out_of_date(manifest: Manifest, root: str, paths: Sequence[str]) -> str:
    """Why ``manifest`` does not tell of ``paths`` as they are; "": it does."""
    digests = np.fromiter((_digest(name_within(root, path)) for path in paths), "u8", len(paths))
    places = np.searchsorted(manifest.digests, digests).clip(max=max(len(manifest.digests) - 1, 0))
    known = manifest.digests[places] == digests if len(manifest.digests) else np.zeros(len(paths), bool)
    if not known.all():
        return f"it lacks {int((~known).sum())} files, such as {paths[int(known.argmin())]!r}"
    for index in np.linspace(0, len(paths) - 1, min(SAMPLED, len(paths))).astype(int):
        size, mtime = int(manifest.sizes[places[index]]), float(manifest.times[places[index]])
        if size >= 0 and _size_and_time(paths[index]) != (size, mtime):
            return f"{paths[index]!r} is another file by now"
    return ""


def _size_and_time(path: str) -> tuple[int, float] | None:
    try:
        found = os.stat(source_of(path)[0])
    except OSError:
        return None
    return found.st_size, found.st_mtime


def _digest(name: str) -> int:
    return int.from_bytes(hashlib.blake2b(name.encode("utf-8", "surrogateescape"), digest_size=8).digest(), "little")


def manifest_of(root: str, files: Mapping[str, Mapping[str, Any]], damaged: Mapping[str, str]) -> dict[str, Any]:
    """Content of a manifest: of each path in ``files`` what is known, with ``bytes`` and ``mtime`` added.

    Args:
        damaged: what is wrong with the paths that cannot be used.
    """
    entries = {}
    for path, known in files.items():
        found = _size_and_time(path)
        if found is not None:
            entries[name_within(root, path)] = {"bytes": found[0], "mtime": found[1], **known}
    return {"files": entries, "damaged": {name_within(root, path): reason for path, reason in damaged.items()}}
