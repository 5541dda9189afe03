"""95 % intervals by bootstrap over patients: images of one patient resemble each other, and are drawn together."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

RESAMPLES = 2000


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
    draws = np.random.default_rng(0).integers(0, len(groups), (resamples, len(groups)))
    low, high = np.percentile(sums[draws].sum(1) / counts[draws].sum(1), [2.5, 97.5])
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
    return found
