"""The Dice that a segmentation can be expected to have, by its confidence: fitted to images that were held out.

Kept beside the weights, apart from them: another hospital's images give the same network another line.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from ignite.engine import Engine
from monai.metrics import compute_dice
from scipy.stats import linregress, spearmanr

from common.engine.beside_weights import FittedHandler, read_fit, save_fit
from common.engine.distributed import gather
from common.metrics.classification import of_least_certain
from common.results.findings import confidence_of, nodules_of

logger = logging.getLogger(__name__)
FEWEST = 20  # images with an outline and a nodule
CHANCE = 0.05  # of a slope so steep where confidence says nothing
ANEW = "--run_id fit_dice of train.json with evaluate.json merged over it, --split validation"


class ExpectedDice(NamedTuple):
    """``slope * confidence + offset``, for a confidence of ``low`` to ``high``; beyond, what it is at these ends.

    Attributes:
        images: it was fitted to.
    """

    slope: float
    offset: float
    low: float
    high: float
    images: int

    @classmethod
    def fit(cls, confidence: np.ndarray, dice: np.ndarray) -> ExpectedDice:
        """The line of least squares through held-out images (n,), NaN where there is no outline, or no nodule.

        Raises:
            ValueError: fewer than :data:`FEWEST` have both; surer masks are not surely better.
        """
        known = np.isfinite(confidence) & np.isfinite(dice)
        confidence, dice = confidence[known], dice[known]
        if len(dice) < FEWEST:
            raise ValueError(f"{len(dice)} images with an outline and a nodule; it takes {FEWEST}")
        if np.ptp(confidence) == 0:
            raise ValueError("all masks are equally sure")
        line = linregress(confidence, dice)
        if not (line.slope > 0 and line.pvalue < CHANCE):
            raise ValueError("surer masks are not surely better")
        ends = float(confidence.min()), float(confidence.max())
        return cls(float(line.slope), float(line.intercept), *ends, len(dice))

    def __call__(self, confidence: float | np.ndarray) -> Any:
        """The mean Dice of masks with this confidence, of images that show a nodule."""
        inside = np.clip(confidence, self.low, self.high)
        return np.clip(self.slope * inside + self.offset, 0.0, 1.0)


def file_of(weights: str | Path) -> Path:
    """Where the line of the network ``weights`` lies."""
    return Path(weights).with_name("expected_dice.json")


def read_expected_dice(weights: str) -> ExpectedDice | None:
    """The line beside ``weights``; None where there is none, or one of other weights, with a warning.

    Raises:
        ValueError: the file is damaged.
    """
    return read_fit(
        ExpectedDice, file_of(weights), weights=weights, anew=ANEW,
        valid=lambda known: known.slope > 0 and known.low <= known.high,
    )  # fmt: skip


def certainty(
    mask: np.ndarray, probabilities: np.ndarray, known: ExpectedDice | None
) -> tuple[dict[str, Any], dict[str, float]]:
    """``confidence``, ``expected_dice`` and ``nodules`` of an entry of the predictions; what a finding has of these.

    Args:
        mask, probabilities: (H, W).
        known: the line; without one, or a mask, there is no ``expected_dice``.
    """
    confidence = confidence_of(mask, probabilities)
    expected = {} if known is None or confidence is None else {"expected_dice": round(float(known(confidence)), 4)}
    return {"confidence": confidence, **expected, "nodules": nodules_of(mask, probabilities)}, expected


class MaskConfidence(FittedHandler[ExpectedDice]):
    """Handler of the evaluation: the confidence of each mask, and how well it tells the mask's Dice.

    Columns ``confidence`` and, where the line beside ``weights`` is known, ``expected_dice`` of ``per_case.csv``;
    metrics ``confidence_correlation`` (Spearman's, with the true Dice), ``dice_least_certain`` of the fifth with the
    lowest confidence, ``expected_dice`` (mean) and ``expected_dice_error``, the mean distance from the true Dice. All
    are over images with an outline and a nodule, while ``dice`` counts a missing outline as 0. It stands before
    :class:`common.results.evaluation.ResultFiles`.
    """

    def __init__(self, *, weights: str) -> None:
        super().__init__(weights=weights, read=read_expected_dice)
        self.confidence, self.dice = np.zeros(0), np.zeros(0)

    def _collect(self, engine: Engine) -> None:
        items: list[Mapping[str, torch.Tensor]] = engine.state.output  # type: ignore[assignment]
        for item in items:
            mask, probabilities = (item[key][0].cpu().numpy() for key in ("pred", "prob_map"))
            confidence = confidence_of(mask > 0, probabilities)
            dice = compute_dice(item["pred"][None], item["label"][None])
            self.current.append((math.nan if confidence is None else confidence, float(dice)))

    def _tell(self, engine: Engine) -> None:
        state: Any = engine.state
        self.confidence, self.dice = np.array(gather(self.current), dtype=float).reshape(-1, 2).T
        state.metric_details["confidence"] = torch.tensor(self.confidence)
        known = np.isfinite(self.confidence) & np.isfinite(self.dice)
        confidence, dice = self.confidence[known], self.dice[known]
        if not len(dice):
            return
        if min(np.ptp(confidence), np.ptp(dice)) > 0:
            state.metrics["confidence_correlation"] = float(spearmanr(confidence, dice).statistic)
        state.metrics["dice_least_certain"] = of_least_certain(confidence, dice)
        if self.known is not None:
            expected = self.known(self.confidence)
            state.metric_details["expected_dice"] = torch.tensor(expected)
            state.metrics["expected_dice"] = float(expected[known].mean())
            state.metrics["expected_dice_error"] = float(np.abs(expected[known] - dice).mean())

    def fit(self) -> None:
        """Write the line through the images that the evaluation saw; what is there stays if it fails.

        Raises:
            ValueError: there is none.
        """
        known = save_fit(
            "expected Dice", file_of(self.weights),
            lambda: ExpectedDice.fit(self.confidence, self.dice), weights=self.weights,
        )  # fmt: skip
        if known is not None:
            line = (known.slope, known.offset, known.images)
            logger.info("expected Dice: %.2f * confidence %+.2f, by %d images held out", *line)
