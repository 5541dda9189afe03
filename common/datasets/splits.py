"""Splits by case, the same everywhere, and paths that stay inside the data set."""

from __future__ import annotations

import hashlib
import logging
from pathlib import Path

import numpy as np

logger = logging.getLogger(__name__)


def inside(root: Path, name: str) -> str:
    """Return ``root/name``.

    Raises:
        ValueError: ``name``, read from a data file, leaves ``root``.
    """
    path = root / name
    if not path.resolve().is_relative_to(root.resolve()):
        raise ValueError(f"{root}: the path {name!r} of a data file leaves the data set's folder; correct the entry")
    return str(path)


def fold(case: str, folds: int = 5) -> int:
    """Fold of a case by the hash of its name, the same everywhere and for ever."""
    return int(hashlib.md5(case.encode(), usedforsecurity=False).hexdigest(), 16) % folds


def three_way_split(case: str) -> str:
    """Fold 0 tests, fold 1 validates, folds 2-4 train."""
    return {0: "test", 1: "validation"}.get(fold(case), "train")


SPLITS = {"train": 0.7, "validation": 0.15, "test": 0.15}


def split_ids(ids: list[str]) -> dict[str, list[str]]:
    """``ids`` cut into "train", "validation" and "test" by :data:`SPLITS`."""
    ends = np.cumsum([round(share * len(ids)) for share in SPLITS.values()])
    parts = np.split(np.array(ids), ends[:-1])
    return {name: part.tolist() for name, part in zip(SPLITS, parts, strict=True)}
