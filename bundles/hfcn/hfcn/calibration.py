"""Probabilities as often right as they say, and the band in which no class is sure: fitted to images held out.

Kept beside the weights, apart from them: another hospital's images calibrate the same network anew.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from ignite import distributed as idist
from ignite.engine import Engine, Events
from monai.data import DataLoader

from common.engine.beside_weights import read_fit, require_held_out, save_fit
from common.metrics.classification import classification_metrics, of_least_certain
from common.metrics.intervals import area_interval
from common.metrics.platt import Platt

logger = logging.getLogger(__name__)
CrossFitted = Callable[[torch.nn.Module], tuple[np.ndarray, np.ndarray]]
FEWEST = 5  # images of either class
ENOUGH = 500  # images held out, to do without those of the training
SHARE = 0.95  # sensitivity at the band's lower end, specificity at its upper end
ANEW = "--run_id fit_calibration of train.json with evaluate.json merged over it, --split validation"


def file_of(weights: str | Path) -> Path:
    """Where the calibration of the network ``weights`` lies."""
    return Path(weights).with_name("calibration.json")


class Calibration(NamedTuple):
    """``slope * log-odds + offset``, and calibrated probabilities ``low`` to ``high`` between which no class is sure.

    Attributes:
        images: it was fitted to.
    """

    slope: float
    offset: float
    low: float
    high: float
    images: int

    @classmethod
    def fit(cls, label: np.ndarray, prob: np.ndarray) -> Calibration:
        """Fit to images held out from the training: Platt 1999, with his targets for few images.

        Args:
            label: (n,) 0 benign, 1 malignant.
            prob: (n,) of malignant.

        Raises:
            ValueError: fewer than :data:`FEWEST` images of a class; a higher probability is no more often right.
        """
        counts = np.bincount(label.astype(int), minlength=2)
        if counts.min() < FEWEST:
            raise ValueError(f"{counts[0]} benign and {counts[1]} malignant images; it takes {FEWEST} of each")
        platt = Platt.fit(label, prob)
        if platt.slope <= 0 or not area_interval(label, prob, np.arange(len(label)))[1] > 0.5:
            raise ValueError("malignant images have no surely higher probability than benign ones")
        return cls(*platt, *_band(platt(prob)), len(label))

    def __call__(self, prob: float | np.ndarray) -> Any:
        """The calibrated probability of malignant."""
        return Platt(self.slope, self.offset)(prob)

    def is_unsure(self, calibrated: float | np.ndarray) -> Any:
        """Whether a calibrated probability lies in the band."""
        return (self.low <= calibrated) & (calibrated < self.high)

    def around(self, threshold: float) -> Calibration:
        """With a band that holds ``threshold`` (uncalibrated), so that what is surely one class is called so."""
        at = float(self(threshold))
        return self._replace(low=min(self.low, at), high=max(self.high, float(np.nextafter(at, 1.0))))


def _band(calibrated: np.ndarray) -> tuple[float, float]:
    """Ends: from the lower on :data:`SHARE` of the malignant images are expected, below the upper of the benign ones.

    Expected by the probabilities (n,) themselves: the counts of some ten benign images would promise too much.
    """
    ordered = np.sort(calibrated)
    sensitivity = ordered[::-1].cumsum()[::-1] / ordered.sum()  # of calling each image malignant from this one on
    specificity = (1 - ordered).cumsum() / (1 - ordered).sum()  # of calling each benign up to this one
    low = ordered[sensitivity >= SHARE].max()
    high = np.nextafter(ordered[specificity >= SHARE].min(), 1.0)
    return float(low), float(max(low, high))


class FitCalibration:
    """Handler of a trainer: at its end, calibrate the best network by images with a mask, and write it beside.

    Args:
        network: of the training.
        evaluator: its images were held out.
        weights: file of the best network.

    Attributes:
        cross_fitted: label and probability (N,) of the training's images by networks that did not see them, of a
            network; they help at the training's end, where fewer than :data:`ENOUGH` images were held out.
    """

    def __init__(self, *, network: torch.nn.Module, evaluator: Any, weights: str) -> None:
        self.network, self.evaluator, self.weights = network, evaluator, weights
        self.cross_fitted: CrossFitted | None = None

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.COMPLETED, lambda _: self._try())

    def _try(self) -> None:
        """A training that is done stays so, whatever its images are."""
        try:
            self._fit(self.cross_fitted)
        except ValueError as error:
            logger.warning("%s", error)

    def fit(self, split: str = "validation") -> None:
        """Fit to the evaluator's images alone, of ``split``; what is there stays where that fails.

        Raises:
            ValueError: the split is another than validation, or its images cannot be calibrated.
        """
        require_held_out(split)
        self._fit(None)

    def _fit(self, cross_fitted: CrossFitted | None) -> None:
        if idist.get_rank() > 0 or not Path(self.weights).is_file():
            return
        network: Any = copy.deepcopy(self.network).eval()
        network.load_state_dict(torch.load(self.weights, map_location="cpu", weights_only=True))
        label, prob = self._answers(network)
        more = np.zeros(0), np.zeros(0)
        if cross_fitted is not None and len(label) < ENOUGH:
            try:
                more = cross_fitted(network)
            except (ValueError, RuntimeError, OSError) as error:
                logger.warning("calibration: without the images of the training, which cannot be read (%s)", error)
        label, prob = (np.concatenate(values) for values in zip((label, prob), more, strict=True))
        save_fit(
            "calibration", file_of(self.weights), lambda: Calibration.fit(label, prob), weights=self.weights
        )  # fmt: skip
        told = f" and {len(more[0])} of the training, cross-fitted" if len(more[0]) else ""
        logger.info("calibration: fitted to %d images held out%s", len(label) - len(more[0]), told)

    @torch.no_grad()
    def _answers(self, network: Any) -> tuple[np.ndarray, np.ndarray]:
        """Label and probability of the held-out images that have a mask; of all where the network asks for none."""
        device = next(network.parameters()).device
        label, prob = [], []
        for batch in DataLoader(self.evaluator.data_loader.dataset, batch_size=8):
            branches = network.branches(batch["image"].as_subclass(torch.Tensor).to(device))
            asked = branches.asks_mask.cpu() | (network.mask_branch is None)
            label.append(batch["malignancy"][asked].numpy())
            prob.append(network.fuse(branches)[:, 1].float().exp().cpu()[asked].numpy())
        return np.concatenate(label), np.concatenate(prob).astype(np.float64)


def read_calibration(weights: str) -> Calibration | None:
    """The calibration beside ``weights``; None where there is none, or one of other weights, with a warning.

    Raises:
        ValueError: the file is damaged.
    """
    return read_fit(Calibration, file_of(weights), weights=weights, anew=ANEW, valid=_can_be)


def _can_be(known: Calibration) -> bool:
    return known.slope > 0 and 0 <= known.low <= known.high <= 1


def calibrated_metrics(
    calibration: Calibration | None, label: np.ndarray, prob: np.ndarray, threshold: float
) -> dict[str, float]:
    """What calibration brings to the images that it holds for, ``calibrated_images`` of them.

    ``calibrated_error``, ``calibrated_brier``, ``unsure_share`` and, of the others, ``accuracy_when_sure`` by the class
    that ``threshold`` gives; ``accuracy_least_certain`` of the fifth nearest to it. NaN where it is undefined.
    """
    if calibration is None or not len(label):
        return {}
    calibrated = calibration(prob)
    sure = ~calibration.around(threshold).is_unsure(calibrated)
    of_all = classification_metrics(label, calibrated, 0.5)
    right = (prob >= threshold) == (label == 1)
    return {
        "calibrated_images": float(len(label)),
        "calibrated_error": of_all["calibration_error"],
        "calibrated_brier": of_all["brier"],
        "unsure_share": float((~sure).mean()),
        "accuracy_when_sure": float(right[sure].mean()) if sure.any() else float("nan"),
        "accuracy_least_certain": of_least_certain(np.abs(calibrated - calibration(threshold)), right),
    }
