"""Platt scaling: a probability that is as often right as it says."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression

EDGE = 1e-4  # probabilities nearer to 0 or 1 count as this


class Platt(NamedTuple):
    """``slope * log-odds + offset`` of a probability, as log-odds."""

    slope: float
    offset: float

    @classmethod
    def fit(cls, right: np.ndarray, prob: np.ndarray) -> Platt:
        """Fit to cases held out from the training: Platt 1999, with his targets for few cases.

        Args:
            right: (n,) 0 or 1, of both some.
            prob: (n,) of 1.
        """
        counts = np.bincount(right.astype(int), minlength=2)
        odds = log_odds(prob)[:, None]
        target = np.where(right == 1, (counts[1] + 1) / (counts[1] + 2), 1 / (counts[0] + 2))
        fitted = LogisticRegression(C=np.inf).fit(
            np.concatenate([odds, odds]), np.repeat([1, 0], len(odds)), np.concatenate([target, 1 - target])
        )
        return cls(float(fitted.coef_[0, 0]), float(fitted.intercept_[0]))

    def __call__(self, prob: float | np.ndarray) -> Any:
        """The calibrated probability."""
        return expit(self.slope * log_odds(prob) + self.offset)


def log_odds(prob: float | np.ndarray) -> Any:
    """Of a probability, at most those of 1 - :data:`EDGE`."""
    return logit(np.clip(prob, EDGE, 1 - EDGE))
