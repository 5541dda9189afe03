"""Two evaluations of the same cases, compared by patient."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from scipy.stats import wilcoxon
from sklearn.metrics import roc_auc_score

from common.metrics.intervals import RESAMPLES, mean_interval
from common.results.page import read_cases

logger = logging.getLogger(__name__)
LABEL, PROB = "malignancy", "prob"  # columns of a classifier
Cases = Mapping[str, Mapping[str, float]]


def compare(first: Cases, second: Cases, patients: Mapping[str, str]) -> list[tuple[str, ...]]:
    """A row for each metric: name, mean of A, mean of B, difference, its interval, p, cases higher and lower in B.

    Args:
        first, second: values by case and metric, of the same cases.
        patients: of the cases; a case without one is a patient of its own.
    """
    names = {name: None for values in first.values() for name in values}
    rows = [_row(name, first, second, patients) for name in names if name not in (LABEL, PROB)]
    if {LABEL, PROB} <= names.keys():
        rows.append(_auc_row(first, second, patients))
    return [row for row in rows if row]


def _row(name: str, first: Cases, second: Cases, patients: Mapping[str, str]) -> tuple[str, ...]:
    pairs = _pairs(name, first, second)
    if not pairs:
        return ()
    groups: dict[str, list[float]] = {}
    for case, (a, b) in pairs.items():
        groups.setdefault(patients.get(case, case), []).append(b - a)
    mean, low, high = mean_interval(groups.values())
    each = np.array([np.mean(differences) for differences in groups.values()])
    p = f"{wilcoxon(each).pvalue:.3g}" if each.any() and len(each) > 1 else ""
    higher, lower = (sum(sign * (b - a) > 0 for a, b in pairs.values()) for sign in (1, -1))
    a, b = np.mean(list(pairs.values()), axis=0)
    return (name, f"{a:.3f}", f"{b:.3f}", f"{mean:+.3f}", f"{low:+.3f} to {high:+.3f}", p, f"{higher}", f"{lower}")


def _pairs(name: str, first: Cases, second: Cases) -> dict[str, tuple[float, float]]:
    """Both values of a metric, by case; those that one run alone has are counted in the log."""
    pairs = {case: (first[case].get(name, np.nan), second[case].get(name, np.nan)) for case in first}
    known = {case: np.isfinite(pair) for case, pair in pairs.items()}
    one_sided = sum(bool(a) != bool(b) for a, b in known.values())
    if one_sided:
        logger.warning("%s: without %d of %d cases, which have a number in one run alone", name, one_sided, len(first))
    return {case: pair for case, pair in pairs.items() if known[case].all()}


def _auc_row(first: Cases, second: Cases, patients: Mapping[str, str]) -> tuple[str, ...]:
    labels, probs = _pairs(LABEL, first, second), _pairs(PROB, first, second)
    cases = [case for case in probs if case in labels]
    label = np.array([labels[case][0] for case in cases])
    scores = [np.array([probs[case][run] for case in cases]) for run in (0, 1)]
    if len(np.unique(label)) < 2:
        return ()
    groups: dict[str, list[int]] = {}
    for index, case in enumerate(cases):
        groups.setdefault(patients.get(case, case), []).append(index)
    members, generator, gains = list(groups.values()), np.random.default_rng(0), []
    for _ in range(RESAMPLES):
        drawn = np.concatenate([members[i] for i in generator.integers(0, len(members), len(members))])
        if len(np.unique(label[drawn])) == 2:
            gains.append(roc_auc_score(label[drawn], scores[1][drawn]) - roc_auc_score(label[drawn], scores[0][drawn]))
    low, high = np.percentile(gains, [2.5, 97.5])
    a, b = (roc_auc_score(label, score) for score in scores)
    return ("roc_auc", f"{a:.3f}", f"{b:.3f}", f"{b - a:+.3f}", f"{low:+.3f} to {high:+.3f}", "", "", "")


def read_both(folders: Sequence[Path]) -> tuple[Cases, Cases, dict[str, str]]:
    """Values of both runs by the case's file name, and the patients of the first.

    Raises:
        FileNotFoundError: a folder has no ``per_case.csv``.
        ValueError: the runs are of other cases.
    """
    runs: list[Cases] = []
    patients: dict[str, str] = {}
    for folder in folders:
        file = folder / "per_case.csv"
        if not file.is_file():
            raise FileNotFoundError(f"no file {str(file)!r}; pass the output_dir of an evaluation")
        values, told = read_cases(file)
        names = {Path(case).name: case for case in values}
        if len(names) < len(values):
            names = {case: case for case in values}  # equally named images lie in several folders
        runs.append({name: values[case] for name, case in names.items()})
        patients = patients or {name: told[case] for name, case in names.items() if case in told}
    if not all(runs):
        raise ValueError("per_case.csv has no row; evaluate a split that has cases")
    missing = sorted(runs[0].keys() ^ runs[1].keys())
    if missing:
        raise ValueError(
            f"{len(missing)} cases are in one run alone, such as {missing[0]!r}; compare runs of one split"
        )
    other = [case for case in runs[0] if runs[0][case].get(LABEL) != runs[1][case].get(LABEL)]
    if other and all(LABEL in run[other[0]] for run in runs):
        raise ValueError(f"{len(other)} cases are of another class in B, such as {other[0]!r}; compare one data set")
    return runs[0], runs[1], patients
