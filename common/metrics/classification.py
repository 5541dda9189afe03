"""Metrics of a two-class classifier, of images and of cases, and the threshold with the largest Youden index."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable

import numpy as np
import torch
from monai.metrics.calibration import calibration_binning
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    precision_score,
    recall_score,
    roc_auc_score,
    roc_curve,
)

logger = logging.getLogger(__name__)
POOLING: dict[str, Callable[[np.ndarray], float]] = {"mean": np.mean, "max": np.max}


def classification_metrics(label: np.ndarray, prob: np.ndarray, threshold: float) -> dict[str, float]:
    """Accuracy, precision, recall, specificity, F1 at ``threshold``; ROC AUC, average precision, Brier score,
    calibration error; sensitivity where specificity is 90 and 95 %, and the other way round.

    Args:
        label: (n,) 0 benign, 1 malignant.
        prob: (n,) of malignant.

    Returns:
        By name; NaN where it is undefined: a share of none, an area where one class is absent.
    """
    decided = (prob >= threshold).astype(int)
    both = len(np.unique(label)) == 2
    metrics = {
        "accuracy": accuracy_score(label, decided),
        "precision": precision_score(label, decided, zero_division=np.nan),
        "recall": recall_score(label, decided, zero_division=np.nan),
        "specificity": recall_score(label, decided, pos_label=0, zero_division=np.nan),
        "f1": f1_score(label, decided, zero_division=np.nan),
        "brier": float(np.mean((prob - label) ** 2)),
        "calibration_error": calibration_error(label, prob),
        **{f"sensitivity_at_{share}_specificity": _at(label, prob, share) for share in (90, 95) if both},
        **{f"specificity_at_{share}_sensitivity": _at(1 - label, 1 - prob, share) for share in (90, 95) if both},
        "roc_auc": roc_auc_score(label, prob) if both else np.nan,
        "average_precision": average_precision_score(label, prob) if both else np.nan,
    }
    return {name: float(value) for name, value in metrics.items()}


def _at(positive: np.ndarray, score: np.ndarray, percent: int) -> float:
    """The largest share of positives that can be had while ``percent`` of the negatives are told."""
    false_rate, true_rate, _ = roc_curve(positive, score, drop_intermediate=False)
    return float(true_rate[false_rate <= 1 - percent / 100 + 1e-9].max())


def net_benefit(label: np.ndarray, prob: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
    """What acting at each of ``thresholds`` in (0, 1) is worth, in true positives an image: Vickers and Elkin 2006.

    TP / n - FP / n * t / (1 - t): a reader who acts from a probability of t on takes (1 - t) / t false alarms for one
    malignancy. Acting on none is worth 0, on all that of ``prob`` 1 everywhere.

    Args:
        label, prob: as of :func:`classification_metrics`.
    """
    acts = prob[None] >= thresholds[:, None]
    right, wrong = (acts & (label == 1)[None]).mean(1), (acts & (label == 0)[None]).mean(1)
    return right - wrong * thresholds / (1 - thresholds)


def calibration_error(label: np.ndarray, prob: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error: mean over images of ``|share of malignant - mean probability|`` of their bin.

    Guo et al. 2017, eq. 3, for the probability of malignant in ``bins`` equal bins of [0, 1].
    """
    probs, labels = (torch.from_numpy(np.asarray(values, dtype=np.float32))[None, None] for values in (prob, label))
    mean_prob, share, counts = calibration_binning(probs, labels, num_bins=bins)
    return float(((mean_prob - share).abs() * counts).nansum() / len(label))


def of_least_certain(certainty: np.ndarray, values: np.ndarray) -> float:
    """Mean of ``values`` (n,) over the fifth of the answers with the lowest ``certainty`` (n,); NaN of none.

    Beside the mean of all it tells whether reading the least certain answers first finds the wrong ones. Of answers
    that are equally certain where the fifth ends, their mean counts.
    """
    if not len(values):
        return float("nan")
    count = max(1, round(len(values) / 5))
    last = np.sort(certainty)[count - 1]
    below, equal = values[certainty < last], values[certainty == last]
    return float((below.sum() + (count - len(below)) * equal.mean()) / count)


def best_threshold(label: np.ndarray, prob: np.ndarray) -> float:
    """Threshold of the largest Youden index (recall + specificity - 1); 0.5 where one class is absent."""
    if len(np.unique(label)) < 2:
        logger.warning("threshold: only one class on validation; it stays at 0.5")
        return 0.5
    false_rate, true_rate, thresholds = roc_curve(label, prob)
    return float(min(thresholds[np.argmax(true_rate - false_rate)], 1.0))


def pool_cases(case: list[str], label: np.ndarray, prob: np.ndarray, pooling: str) -> tuple[np.ndarray, np.ndarray]:
    """Label (1 where an image is malignant) and pooled probability of each case."""
    groups = defaultdict(list)
    for index, name in enumerate(case):
        groups[name].append(index)
    return (
        np.array([label[group].max() for group in groups.values()]),
        np.array([POOLING[pooling](prob[group]) for group in groups.values()]),
    )
