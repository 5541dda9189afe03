"""95 % intervals by bootstrap over patients: images of one patient resemble each other, and are drawn together."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

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
