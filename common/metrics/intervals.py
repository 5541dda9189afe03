"""95 % intervals over patients, whose images resemble each other: means by bootstrap, ROC AUC by DeLong's variance."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from scipy.stats import norm, rankdata

RESAMPLES = 2000
QUANTILE = float(norm.ppf(0.975))


def mean_interval(groups: Iterable[Sequence[float]], *, resamples: int = RESAMPLES) -> tuple[float, float, float]:
    """Mean over all values, and its 95 % percentile interval over ``resamples`` draws of whole groups.

    Args:
        groups: the values of each patient, at least one value each.

    Raises:
        ValueError: no group.
    """
    groups = list(groups)
    if not groups:
        raise ValueError("groups: there are none; pass the values of one patient at least")
    sums, counts = np.array([sum(values) for values in groups]), np.array([len(values) for values in groups])
    rng = np.random.default_rng(0)
    draws = (rng.integers(0, len(groups), len(groups)) for _ in range(resamples))  # one at a time: memory stays flat
    low, high = np.percentile([sums[draw].sum() / counts[draw].sum() for draw in draws], [2.5, 97.5])
    return float(sums.sum() / counts.sum()), float(low), float(high)


def groups_of(
    name: str, cases: Mapping[str, Mapping[str, float]], patients: Mapping[str, str]
) -> dict[str, list[float]]:
    """Finite values of the metric ``name`` for each patient; a case without one is a patient of its own."""
    groups: dict[str, list[float]] = defaultdict(list)
    for case, values in cases.items():
        if math.isfinite(values.get(name, math.nan)):
            groups[patients.get(case, case)].append(values[name])
    return dict(groups)


def intervals_of(
    metrics: Mapping[str, float | None], cases: Mapping[str, Mapping[str, float]], patients: Mapping[str, str]
) -> dict[str, tuple[float, float]]:
    """The 95 % interval of each of ``metrics`` that is the mean over its cases, of two patients at least."""
    found = {}
    for name, value in metrics.items():
        groups = groups_of(name, cases, patients)
        if value is None or len(groups) < 2:
            continue
        mean, low, high = mean_interval(groups.values())
        if abs(mean - value) < 1e-3 * max(1.0, abs(value)):
            found[name] = (low, high)
    return found | _of_areas(metrics, cases, patients)


def _of_areas(
    metrics: Mapping[str, float | None], cases: Mapping[str, Mapping[str, float]], patients: Mapping[str, str]
) -> dict[str, tuple[float, float]]:
    """The interval of ``roc_auc`` of images, and of patients if their probabilities are means, of a classifier."""
    told = [(patients.get(name, name), v["malignancy"], v["prob"]) for name, v in cases.items() if "malignancy" in v]
    if not told or metrics.get("roc_auc") is None:
        return {}
    patient, label, prob = (np.array(column) for column in zip(*told, strict=True))
    found = {"roc_auc": area_interval(label, prob, patient)[1:]}
    names, group = np.unique(patient, return_inverse=True)
    labels = (np.bincount(group, label) > 0).astype(float)
    area, low, high = area_interval(labels, np.bincount(group, prob) / np.bincount(group), names)
    if abs(area - (metrics.get("case_roc_auc") or 0.0)) < 1e-6:
        found["case_roc_auc"] = (low, high)
    return {name: ends for name, ends in found.items() if all(map(math.isfinite, ends))}


def area_interval(label: np.ndarray, prob: np.ndarray, patient: np.ndarray) -> tuple[float, float, float]:
    """ROC AUC and its 95 % interval, within [0, 1], by DeLong's variance with the images of a patient taken together.

    Obuchowski 1997 (Biometrics 53), eq. for clustered data; with one image a patient it is DeLong et al. 1988.

    Args:
        label: (n,) 0 or 1.
        prob: (n,) of label 1.
        patient: (n,) whose image it is.

    Returns:
        The area and both ends; NaN where a class has none; the ends where one has a single patient, or the variance is
        0, as of classes that are wholly apart: then these images don't tell it.
    """
    positive = np.asarray(label) == 1
    counts = np.array([positive.sum(), (~positive).sum()])
    if not counts.all():
        return (math.nan, math.nan, math.nan)
    ranks = rankdata(prob)
    part = np.empty(len(ranks))  # the share of the other class that lies on the right side of each image
    for mask, other in ((positive, counts[1]), (~positive, counts[0])):
        within = rankdata(prob[mask])
        part[mask] = (ranks[mask] - within) / other
    part[~positive] = 1 - part[~positive]
    area = float(part[positive].mean())
    _, group = np.unique(patient, return_inverse=True)
    first, second = (np.bincount(group, (part - area) * mask) for mask in (positive, ~positive))
    having = [len(np.unique(group[mask])) for mask in (positive, ~positive)]
    if min(having) < 2:
        return (area, math.nan, math.nan)
    own = [k / (k - 1) * (sums**2).sum() / n**2 for k, sums, n in zip(having, (first, second), counts, strict=True)]
    groups = group.max() + 1
    variance = own[0] + own[1] + 2 * groups / (groups - 1) * (first * second).sum() / counts.prod()
    if variance <= 1e-12:
        return (area, math.nan, math.nan)
    margin = QUANTILE * math.sqrt(variance)
    return (area, max(0.0, area - margin), min(1.0, area + margin))
