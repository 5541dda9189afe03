"""How often a generated sentence is right, by the probability of its words: fitted to studies held out.

Kept beside the weights, apart from them: another hospital's reports calibrate the same network anew.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ignite.engine import Engine

from common.engine.beside_weights import FittedHandler, read_fit, save_fit
from common.engine.distributed import gather
from common.metrics.classification import calibration_error, of_least_certain
from common.metrics.entities import organ_of
from common.metrics.platt import Platt
from common.metrics.sentence_truth import claims_of, is_right, said_of
from common.text.sentences import parts_of
from common.text.tokenizer import SentenceTokenizer

logger = logging.getLogger(__name__)
FEWEST = 5  # sentences that are right, and that are wrong
DOUBTFUL = 0.5  # below it a sentence is more often wrong than right
ANEW = "--run_id fit_sentences of train.json with evaluate.json merged over it, --split validation"


def file_of(weights: str | Path) -> Path:
    """Where the calibration of the network ``weights`` lies."""
    return Path(weights).with_name("sentence_calibration.json")


class SentenceCalibration(NamedTuple):
    """:class:`common.metrics.platt.Platt` of the mean probability of a sentence's words.

    Attributes:
        sentences, right: that it was fitted to, and how many of them were right.
    """

    slope: float
    offset: float
    sentences: int
    right: int

    @classmethod
    def fit(cls, right: np.ndarray, prob: np.ndarray) -> SentenceCalibration:
        """Fit to sentences (n,) of studies that the network was not trained on.

        Raises:
            ValueError: fewer than :data:`FEWEST` are right or wrong; a higher probability is no more often right.
        """
        counts = np.bincount(right.astype(int), minlength=2)
        if counts.min() < FEWEST:
            raise ValueError(f"{counts[1]} right and {counts[0]} wrong sentences; it takes {FEWEST} of each")
        platt = Platt.fit(right, prob)
        if platt.slope <= 0:
            raise ValueError("more probable sentences are no more often right")
        return cls(*platt, int(counts.sum()), int(counts[1]))

    def __call__(self, prob: float | np.ndarray) -> Any:
        """The share of sentences of this probability that are right."""
        return Platt(self.slope, self.offset)(prob)


def read_calibration(weights: str) -> SentenceCalibration | None:
    """The calibration beside ``weights``; None where there is none, or one of other weights, with a warning.

    Raises:
        ValueError: the file is damaged.
    """
    return read_fit(
        SentenceCalibration, file_of(weights), weights=weights, anew=ANEW, valid=lambda known: known.slope > 0
    )


def mark_doubtful(entry: dict[str, Any], calibration: SentenceCalibration | None) -> None:
    """Give each sentence of an ``entry`` of ``predictions.json`` ``right``, how often such sentences are, and the
    doubtful ones ``doubtful``; nothing without a calibration.
    """
    if calibration is not None:
        for sentence in entry["sentences"]:
            sentence["right"] = round(float(calibration(sentence["probability"])), 4)
            if sentence["right"] < DOUBTFUL:
                sentence["doubtful"] = True


class SentenceMetrics(FittedHandler[SentenceCalibration]):
    """Handler of the evaluation: how many sentences that state or deny something are right, and how well that is known.

    ``sentences_right``, a share, and ``sentences_right_least_certain`` of the fifth with the lowest probability;
    ``sentence_error``, the expected calibration error of their words' mean probability,
    and ``calibrated_sentence_error`` by the file beside ``weights``, where there is one.

    Args:
        organ: as :class:`common.metrics.reports.ReportMetrics` has it.
    """

    def __init__(self, *, tokenizer: SentenceTokenizer, weights: str, organ: str) -> None:
        super().__init__(weights=weights, read=read_calibration)
        self.tokenizer, self.organ = tokenizer, organ
        self.right, self.prob = np.zeros(0), np.zeros(0)

    def _collect(self, engine: Engine) -> None:
        items: list[dict] = engine.state.output  # type: ignore[assignment]
        for item in items:
            parts = [(part.text, part.probability) for part in parts_of(item, self.tokenizer)]
            self.current.append((item["report"], parts))

    def _tell(self, engine: Engine) -> None:
        cases = gather(self.current)
        references = [reference for reference, _ in cases]
        organ = (organ_of(references) or "thyroid") if self.organ == "auto" else self.organ
        told = [
            (right, prob)
            for reference, parts in cases
            for known in [said_of(reference, organ)]
            for text, prob in parts
            if (right := is_right(claims_of(text, organ), known)) is not None
        ]
        self.right, self.prob = np.array(told, dtype=float).reshape(-1, 2).T
        if len(self.right):
            engine.state.metrics["sentences_right"] = float(self.right.mean())
            engine.state.metrics["sentences_right_least_certain"] = of_least_certain(self.prob, self.right)
            engine.state.metrics["sentence_error"] = calibration_error(self.right, self.prob)
            if self.known is not None:
                error = calibration_error(self.right, self.known(self.prob))
                engine.state.metrics["calibrated_sentence_error"] = error

    def fit(self) -> None:
        """Write the calibration of the sentences that the evaluation saw; what is there stays if it fails.

        Raises:
            ValueError: they cannot be calibrated.
        """
        known = save_fit(
            "sentence calibration", file_of(self.weights),
            lambda: SentenceCalibration.fit(self.right, self.prob), weights=self.weights,
        )  # fmt: skip
        if known is not None:
            logger.info("sentence calibration: %d sentences, %d right", known.sentences, known.right)
