"""Below which fit a report is doubted: told of images that were held out from the training, with their own reports.

Kept beside the weights, apart from them: another hospital's reports give the same network another limit.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import NamedTuple

import numpy as np
from ignite.engine import Engine

from common.engine.beside_weights import FittedHandler, read_fit, save_fit
from common.engine.distributed import gather

logger = logging.getLogger(__name__)
SHARE = 0.05  # of own reports, that fit less well than the limit
FEWEST = 20  # reports, of which the least fitting one is that share
DOUBT = "the report fits this image less well than 19 of 20 held-out reports fit theirs: is it this patient's?"
ANEW = "--run_id fit_reports of train.json with evaluate.json merged over it, --split validation"


class ReportFit(NamedTuple):
    """The fit that :data:`SHARE` of ``reports`` own reports stayed below."""

    limit: float
    reports: int

    @classmethod
    def of(cls, fits: np.ndarray) -> ReportFit:
        """The limit of the fits (n,) of held-out images to their own reports.

        Raises:
            ValueError: fewer than :data:`FEWEST`.
        """
        if len(fits) < FEWEST:
            raise ValueError(f"{len(fits)} images with a report; it takes {FEWEST}")
        return cls(float(np.quantile(fits, SHARE)), len(fits))

    def doubts(self, fit: float) -> bool:
        """Whether a report of this ``fit`` may be another patient's."""
        return fit < self.limit


def file_of(weights: str | Path) -> Path:
    """Where the limit of the network ``weights`` lies."""
    return Path(weights).with_name("report_fit.json")


def read_report_fit(weights: str) -> ReportFit | None:
    """The limit beside ``weights``; None where there is none, or one of other weights, with a warning.

    Raises:
        ValueError: the file is damaged.
    """
    return read_fit(ReportFit, file_of(weights), weights=weights, anew=ANEW)


class ReportFits(FittedHandler[ReportFit]):
    """Handler of the evaluation: how well the reports fit, ``report_fit``, and the share doubted, ``report_doubted``.

    Images without a report count for neither; ``report_doubted`` is there where the limit beside ``weights`` is known.
    """

    def __init__(self, *, weights: str) -> None:
        super().__init__(weights=weights, read=read_report_fit)
        self.fits = np.zeros(0)

    def _collect(self, engine: Engine) -> None:
        items: list[dict] = engine.state.output  # type: ignore[assignment]
        self.current += [float(item["fit"]) for item in items if bool(item["is_word"].any())]

    def _tell(self, engine: Engine) -> None:
        self.fits = np.array(gather(self.current))
        if len(self.fits):
            engine.state.metrics["report_fit"] = float(self.fits.mean())
            if self.known is not None:
                engine.state.metrics["report_doubted"] = float((self.fits < self.known.limit).mean())

    def fit(self) -> None:
        """Write the limit of the reports that the evaluation saw; what is there stays if it fails.

        Raises:
            ValueError: there are too few.
        """
        known = save_fit("report fit", file_of(self.weights), lambda: ReportFit.of(self.fits), weights=self.weights)
        if known is not None:
            logger.info("report fit: limit %.2f, by %d reports held out", known.limit, known.reports)
