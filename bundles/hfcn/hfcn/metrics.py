"""Metrics of a two-class classifier, per image and per case, and the threshold chosen on validation."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable

import numpy as np
import torch
from ignite.engine import Engine, Events
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    f1_score,
    precision_score,
    recall_score,
    roc_auc_score,
    roc_curve,
)

from common.distributed import gather

logger = logging.getLogger(__name__)
POOLING: dict[str, Callable[[np.ndarray], float]] = {"mean": np.mean, "max": np.max}


def classification_metrics(label: np.ndarray, prob: np.ndarray, threshold: float) -> dict[str, float]:
    """Accuracy, precision, recall, specificity, F1 at ``threshold``; ROC AUC, average precision, calibration error.

    Args:
        label: (n,) 0 benign, 1 malignant.
        prob: (n,) of malignant.

    Returns:
        By name; the areas are missing where one class is absent.
    """
    decided = (prob >= threshold).astype(int)
    metrics = {
        "accuracy": accuracy_score(label, decided),
        "precision": precision_score(label, decided, zero_division=0),
        "recall": recall_score(label, decided, zero_division=0),
        "specificity": recall_score(label, decided, pos_label=0, zero_division=0),
        "f1": f1_score(label, decided, zero_division=0),
        "calibration_error": calibration_error(label, prob),
    }
    if len(np.unique(label)) == 2:
        metrics["roc_auc"] = roc_auc_score(label, prob)
        metrics["average_precision"] = average_precision_score(label, prob)
    return {name: float(value) for name, value in metrics.items()}


def calibration_error(label: np.ndarray, prob: np.ndarray, bins: int = 10) -> float:
    """Expected calibration error: mean over images of |share of malignant - mean probability| of their bin.

    Guo et al. 2017, eq. 3, for the probability of malignant in ``bins`` equal bins of [0, 1].
    """
    index = np.minimum((prob * bins).astype(int), bins - 1)
    gaps = [abs(label[index == b].sum() - prob[index == b].sum()) for b in range(bins)]
    return float(np.sum(gaps) / len(label))


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


class Collected:
    """What a handler needs of every image of an evaluation: case, label, probability."""

    def __init__(self) -> None:
        self.case: list[str] = []
        self.label: list[int] = []
        self.prob: list[float] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self.clear)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.collect)

    def clear(self, _: Engine) -> None:
        self.case, self.label, self.prob = [], [], []

    def collect(self, engine: Engine) -> None:
        for item, data in zip(engine.state.output, engine.state.batch, strict=True):  # type: ignore[call-overload]
            self.case.append(str(data["case"]))
            self.label.append(int(item["label"]))
            self.prob.append(float(item["prob"]))

    def of_all_ranks(self) -> tuple[list[str], np.ndarray, np.ndarray]:
        """Case, label and probability of the images of every process."""
        return gather(self.case), np.array(gather(self.label)), np.array(gather(self.prob))


class ChooseThreshold:
    """Handler of the validation: put the best threshold into ``threshold``, a buffer of the network."""

    def __init__(self, *, network: torch.nn.Module) -> None:
        self.threshold: torch.Tensor = network.threshold  # type: ignore[assignment]
        self.collected = Collected()

    def attach(self, engine: Engine) -> None:
        self.collected.attach(engine)
        engine.add_event_handler(Events.COMPLETED, self._choose)

    def _choose(self, _: Engine) -> None:
        self.threshold.fill_(best_threshold(*self.collected.of_all_ranks()[1:]))


class ClassificationMetrics:
    """Handler of the evaluation: metrics of images, and of cases under ``case_NAME``, at the network's threshold.

    Args:
        pooling: a case's probability is the "mean" or the "max" over its images.
    """

    def __init__(self, *, network: torch.nn.Module, pooling: str = "mean") -> None:
        if pooling not in POOLING:
            raise ValueError(f"pooling: {pooling!r} is none of {sorted(POOLING)}")
        self.network, self.pooling, self.collected = network, pooling, Collected()

    def attach(self, engine: Engine) -> None:
        self.collected.attach(engine)
        engine.add_event_handler(Events.COMPLETED, self._compute)

    def _compute(self, engine: Engine) -> None:
        case, label, prob = self.collected.of_all_ranks()
        threshold = float(self.network.threshold)  # type: ignore[arg-type]
        of_cases = pool_cases(case, label, prob, self.pooling)
        engine.state.metrics.update(classification_metrics(label, prob, threshold))
        cases = classification_metrics(*of_cases, threshold)
        engine.state.metrics.update({f"case_{name}": value for name, value in cases.items()})
        engine.state.metrics["threshold"] = threshold
        engine.state.metric_details |= {"malignancy": torch.tensor(label), "prob": torch.tensor(prob)}  # type: ignore[attr-defined]
