"""Splits by case, the same everywhere, and paths that stay inside the data set."""

from __future__ import annotations

import hashlib
import logging
import os
from collections.abc import Iterable, Mapping
from itertools import combinations
from pathlib import Path

import numpy as np

logger = logging.getLogger(__name__)


def inside(root: Path, name: str) -> str:
    """Return ``root/name``; a name that Windows wrote, with its backslashes, is understood.

    Raises:
        ValueError: ``name``, read from a data file, leaves ``root`` or is no text.
    """
    if not isinstance(name, str):
        raise ValueError(f"{root}: {name!r} of a data file is no file's name; correct the entry")
    if "\\" in name and "\0" not in name and not os.path.lexists(os.path.join(root, name)):
        name = name.replace("\\", "/")
    path = os.path.normpath(os.path.join(root, name))  # without "..": links lead where the data set's owner lets them
    base = os.path.abspath(root)
    if not f"{os.path.abspath(path)}{os.sep}".startswith(base if base.endswith(os.sep) else f"{base}{os.sep}"):
        raise ValueError(f"{root}: the path {name!r} of a data file leaves the data set's folder; correct the entry")
    return path


def fold(case: str, folds: int = 5) -> int:
    """Fold of a case by the hash of its name, the same everywhere and for ever."""
    return _hash(case) % folds


def three_way_split(case: str) -> str:
    """Fold 0 tests, fold 1 validates, folds 2-4 train."""
    return {0: "test", 1: "validation"}.get(fold(case), "train")


def split_by_fold(case: str, test_fold: int) -> str:
    """Fold ``test_fold`` tests, an eighth of the others validates, the rest trains.

    Raises:
        ValueError: ``test_fold`` is not in 0..4.
    """
    if test_fold not in range(5):
        raise ValueError(f"test_fold: {test_fold} is not in 0..4")
    if fold(case) == test_fold:
        return "test"
    return "validation" if fold(case, folds=40) // 5 == 0 else "train"  # independent of the fold itself


def fixed_sample(cases: list[dict], most: int | None, *, key: str) -> list[dict]:
    """``most`` of ``cases``, chosen by the hash of their ``key``, so always the same ones, in their order; None: all.

    Raises:
        ValueError: ``most`` is below 1.
    """
    if most is None:
        return cases
    if most < 1:
        raise ValueError(f"val_studies: {most} is below 1; pass how many shall be validated")
    chosen = sorted(range(len(cases)), key=lambda index: _hash(str(cases[index][key])))[:most]
    return [cases[index] for index in sorted(chosen)]


def _hash(name: str) -> int:
    return int(hashlib.md5(name.encode(), usedforsecurity=False).hexdigest(), 16)


NAMES = {  # what tables call the splits
    "train": "train", "training": "train", "tr": "train",
    "validation": "validation", "val": "validation", "valid": "validation", "validate": "validation",
    "dev": "validation",
    "test": "test", "testing": "test", "te": "test",
}  # fmt: skip


def split_named(name: str, *, where: str) -> str:
    """ "train", "validation" or "test": what a table means by ``name``, in any case.

    Raises:
        ValueError: it names no split.
    """
    known = NAMES.get(str(name).strip().lower())
    if known is None:
        raise ValueError(f"{where}: split {name!r} is none of train, validation (val), test; correct the row")
    return known


SPLITS = {"train": 0.7, "validation": 0.15, "test": 0.15}


def split_ids(ids: list[str]) -> dict[str, list[str]]:
    """``ids`` cut into "train", "validation" and "test" by :data:`SPLITS`."""
    ends = np.cumsum([round(share * len(ids)) for share in SPLITS.values()])
    parts = np.split(np.array(ids), ends[:-1])
    return {name: part.tolist() for name, part in zip(SPLITS, parts, strict=True)}


def require_apart(cases: Iterable[tuple[str, str]], *, where: str) -> None:
    """Refuse a case that stands in two splits, or twice in one: results on it would be worth nothing.

    Args:
        cases: name and split of each.

    Raises:
        ValueError: with the first such name.
    """
    known: dict[str, str] = {}
    for name, split in cases:
        if name in known:
            places = f"in {known[name]!r} and in {split!r}" if known[name] != split else f"twice in {split!r}"
            raise ValueError(f"{where}: {name!r} is {places}; keep it once")
        known[name] = split


def tell_of_leaks(splits: Mapping[str, Iterable[object]], *, what: str, where: str) -> None:
    """Say so where names stand in two of the ``splits``, in a list that others published.

    Args:
        splits: names of cases, or of images, by split.
        what: they are: "images".
        where: they are read from.
    """
    names = {split: set(map(str, listed)) - {""} for split, listed in splits.items()}
    shared = set[str]().union(*(names[first] & names[second] for first, second in combinations(names, 2)))
    if shared:
        logger.warning(
            "%s: %d %s stand in several splits, such as %r: what is measured on them is worth nothing",
            where, len(shared), what, min(shared),
        )  # fmt: skip
