"""Names of result files: one for each case, whatever its image is called."""

from __future__ import annotations

import os
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from common.images.files import stem_of


def result_names(cases: Sequence[str], *, are_files: bool) -> list[str]:
    """A file name without suffix for each of ``cases``, no two alike on any file system.

    A case has its own name where no other has it; else its folders, below the one that all share, stand before it, and
    a number behind it where these are the same, too (several phrases of one image). The order of the cases decides
    which number.

    Args:
        cases: paths of images, or names.
        are_files: which of the two.
    """
    plain = [stem_of(case) if are_files else _safe(case) for case in cases]
    counts = Counter(map(_folded, plain))
    longer = _with_folders(cases) if are_files else plain
    names: list[str] = []
    taken = {_folded(name) for name in plain if counts[_folded(name)] == 1}
    last: Counter[str] = Counter()  # number that a name had last, so that many of one name take no longer each
    for name, long in zip(plain, longer, strict=True):
        unique = name
        if counts[_folded(name)] > 1:
            unique = _free(long, taken, last)
            taken.add(_folded(unique))
        names.append(unique)
    return names


def _with_folders(paths: Sequence[str]) -> list[str]:
    """Stems after the folders below the one that all share: ``patient1_1`` of ``patient1/1.png``."""
    folders = [Path(os.path.abspath(path)).parent for path in paths]
    shared = os.path.commonpath(folders) if folders else ""
    return [
        "_".join([*map(_safe, folder.relative_to(shared).parts), stem_of(path)])
        for folder, path in zip(folders, paths, strict=True)
    ]


def _free(name: str, taken: set[str], last: Counter[str]) -> str:
    """``name``, or with the first number behind it that no other has."""
    number = max(1, last[_folded(name)])
    result = name if number == 1 else f"{name}_{number}"
    while _folded(result) in taken:
        number += 1
        result = f"{name}_{number}"
    last[_folded(name)] = number
    return result


def _folded(name: str) -> str:
    """What two names share that a file system may take for one."""
    return unicodedata.normalize("NFC", name).casefold()


def _safe(name: str) -> str:
    """``name`` with letters, digits, and ``_ . -`` for all others; not hidden."""
    return re.sub(r"[^\w.-]", "_", unicodedata.normalize("NFC", name)).lstrip(".") or "_"
