"""The threshold chosen on validation, and the metrics of images and cases at it."""

from __future__ import annotations

import logging

import numpy as np
import torch
from ignite.engine import Engine, Events

from common.engine.distributed import gather
from common.metrics.classification import POOLING, best_threshold, classification_metrics, pool_cases

from .calibration import calibrated_metrics, read_calibration

logger = logging.getLogger(__name__)


class Collected:
    """What a handler needs of every image of an evaluation: case, label, probability."""

    def __init__(self) -> None:
        self.case: list[str] = []
        self.label: list[int] = []
        self.prob: list[float] = []
        self.calibrated: list[bool] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self.clear)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self.collect)

    def clear(self, _: Engine) -> None:
        self.case, self.label, self.prob, self.calibrated = [], [], [], []

    def collect(self, engine: Engine) -> None:
        for item, data in zip(engine.state.output, engine.state.batch, strict=True):  # type: ignore[call-overload]
            self.case.append(str(data["case"]))
            self.label.append(int(item["label"]))
            self.prob.append(float(item["prob"]))
            self.calibrated.append(bool(item["can_be_calibrated"]))

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
        weights: file of the network, beside which its calibration may lie.

    Raises:
        ValueError: a ``pooling`` that is neither.
    """

    def __init__(self, *, network: torch.nn.Module, pooling: str = "mean", weights: str | None = None) -> None:
        if pooling not in POOLING:
            raise ValueError(f"pooling: {pooling!r} is none of {sorted(POOLING)}")
        self.network, self.pooling, self.weights, self.collected = network, pooling, weights, Collected()

    def attach(self, engine: Engine) -> None:
        self.collected.attach(engine)
        engine.add_event_handler(Events.COMPLETED, self._compute)

    def _compute(self, engine: Engine) -> None:
        case, label, prob = self.collected.of_all_ranks()
        threshold = float(self.network.threshold)  # type: ignore[arg-type]
        of_cases = pool_cases(case, label, prob, self.pooling)
        engine.state.metrics.update(classification_metrics(label, prob, threshold))
        cases = classification_metrics(*of_cases, threshold)
        known = np.array(gather(self.collected.calibrated), dtype=bool)
        calibration = None if self.weights is None else read_calibration(self.weights)
        engine.state.metrics.update(calibrated_metrics(calibration, label[known], prob[known], threshold))
        engine.state.metrics.update({f"case_{name}": value for name, value in cases.items()})
        engine.state.metrics["threshold"] = threshold
        of_truth = np.where(label == 1, prob, 1 - prob)  # first, since the page ranks the cases by it
        engine.state.metric_details |= {  # type: ignore[attr-defined]
            "prob_of_true_class": torch.tensor(of_truth), "malignancy": torch.tensor(label), "prob": torch.tensor(prob),
        }  # fmt: skip
        if calibration is not None:
            calibrated = torch.tensor(np.where(known, calibration(prob), np.nan))
            engine.state.metric_details["prob_calibrated"] = calibrated  # type: ignore[attr-defined]
