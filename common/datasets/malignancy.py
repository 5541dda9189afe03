"""Benign or malignant: labels of nodules from what a data set records, by one documented map.

TI-RADS levels 1, 2, 3 count as benign, 4, 4a, 4b, 4c, 5, 6 as malignant, as two public parsers of DDTI have it. This is
a radiologist's suspicion, not histology.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence

from common.datasets.layouts import read_dataset
from common.datasets.splits import fold

logger = logging.getLogger(__name__)
MALIGNANT = dict.fromkeys(("1", "2", "3"), 0) | dict.fromkeys(("4", "4a", "4b", "4c", "5", "6"), 1)
SPLITS = ("train", "validation", "test")


def malignancy(case: dict) -> int | None:
    """0 benign, 1 malignant: what ``malignant`` (0 or 1) says, else the map of ``tirads``; None where neither is known.

    Raises:
        ValueError: another value of ``malignant``, or an unknown level.
    """
    recorded, level = str(case.get("malignant") or "").strip(), str(case.get("tirads") or "").strip().lower()
    if recorded not in ("", "0", "1"):
        raise ValueError(f"malignant: {recorded!r} of {case['image']!r}; expected 0, 1 or nothing")
    if recorded:
        return int(recorded)
    if level and level not in MALIGNANT:
        raise ValueError(f"tirads: {level!r} of {case['image']!r} is none of {list(MALIGNANT)}")
    return MALIGNANT[level] if level else None


def read_malignancy(root: str, split: str, *, test_fold: int | None = None, check: bool = True) -> list[dict]:
    """Cases of :func:`common.datasets.layouts.read_dataset` with ``malignancy``; unknown ones are counted and left out.

    Args:
        test_fold: None keeps the data set's own splits; k in 0..4 pools them and divides anew by the hash of the case's
            name: fold k tests, an eighth of the others validates, the rest trains.
        check: as :func:`common.datasets.layouts.read_dataset` has it.

    Raises:
        ValueError: no case has a label, or a class is missing in a split other than "test".
    """
    cases = read_dataset(root, split, check=check) if test_fold is None else _by_fold(root, split, test_fold, check)
    labelled = [{**case, "malignancy": malignancy(case)} for case in cases]
    known = [case for case in labelled if case["malignancy"] is not None]
    counts = Counter(case["malignancy"] for case in known)
    logger.info(
        "%s: %d benign and %d malignant images; %d without a label left out",
        split, counts[0], counts[1], len(cases) - len(known),
    )  # fmt: skip
    if not known:
        raise ValueError(f"dataset_dir: {root!r} has no label in split {split!r}; give a column malignant or tirads")
    if split != "test" and len(counts) < 2:
        raise ValueError(f"dataset_dir: {root!r} has only one class in split {split!r}; both are needed to train")
    return known


def _by_fold(root: str, split: str, test_fold: int, check: bool, splits: Sequence[str] = SPLITS) -> list[dict]:
    if test_fold not in range(5):
        raise ValueError(f"test_fold: {test_fold} is not in 0..4")
    cases = [case for name in splits for case in read_dataset(root, name, check=check)]
    return [case for case in cases if _split_of(case["case"], test_fold) == split]


def _split_of(case: str, test_fold: int) -> str:
    if fold(case) == test_fold:
        return "test"
    return "validation" if fold(case, folds=40) // 5 == 0 else "train"  # independent of the fold itself
