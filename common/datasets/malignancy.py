"""Benign or malignant: labels of nodules from what a data set records, by one documented map.

TI-RADS levels 1, 2, 3 count as benign, 4, 4a, 4b, 4c, 5, 6 as malignant, as two public parsers of DDTI have it. This is
a radiologist's suspicion, not histology.
"""

from __future__ import annotations

import logging
from collections import Counter

from common.datasets.layouts import read_dataset

logger = logging.getLogger(__name__)
MALIGNANT = dict.fromkeys(("1", "2", "3"), 0) | dict.fromkeys(("4", "4a", "4b", "4c", "5", "6"), 1)


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
        test_fold, check: as :func:`common.datasets.layouts.read_dataset` has them.

    Raises:
        ValueError: no case has a label, or a class is missing in a split other than "test".
    """
    cases = read_dataset(root, split, test_fold=test_fold, check=check)
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
