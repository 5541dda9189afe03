"""Metrics of generated reports: one that chooses the network, and all of them for the evaluation."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from math import isnan

import torch
from ignite.engine import Engine, Events
from ignite.metrics import Metric
from monai.handlers import from_engine

from common.cli.given import import_package
from common.datasets.studies import read_studies
from common.engine.distributed import gather
from common.engine.failures import require_numbers
from common.metrics.entities import entity_metrics, organ_of, read_entities
from common.metrics.entity_status import status_scores
from common.metrics.observations import observation_scores
from common.metrics.radeval import names_of, radeval_scores
from common.metrics.text import bleu, cider_d_each, rouge_l, text_metrics, tokens_of

logger = logging.getLogger(__name__)
TEXTS = from_engine(["text", "report"])


class Bleu4(Metric):
    """BLEU-4 of all reports of a split together, of every process."""

    def __init__(self, *, output_transform: Callable = TEXTS) -> None:
        super().__init__(output_transform=output_transform)

    def reset(self) -> None:
        self.generated: list[str] = []
        self.references: list[str] = []

    def update(self, output: Sequence[Sequence[str]]) -> None:
        """``output``: generated texts and references."""
        self.generated += output[0]
        self.references += output[1]

    def compute(self) -> float:
        texts = gather(self.generated), gather(self.references)
        return bleu(*([tokens_of(text) for text in side] for side in texts))["bleu_4"]


def variety(generated: Sequence[str], training: Sequence[str]) -> dict[str, float]:
    """How various generated reports are; one report for all studies is a collapse.

    Returns:
        ``distinct_reports``, their share; ``mean_length``, tokens of a report; ``copied_reports``, the share that is
        word for word a report of ``training``, not there without any.
    """
    texts, known = ([" ".join(tokens_of(text)) for text in side] for side in (generated, training))
    shares = {
        "distinct_reports": len(set(generated)) / len(generated),
        "mean_length": sum(len(text.split()) for text in texts) / len(texts),
    }
    copied = set(known)
    return shares | ({"copied_reports": sum(text in copied for text in texts) / len(texts)} if known else {})


def training_reports(*, root: str, annotation: str | None = None) -> list[str]:
    """Reports of the training split of :func:`common.datasets.studies.read_studies`, whose images are not looked at.

    Empty where the data set has no such split, as one to evaluate on alone; the log says so.
    """
    try:
        studies = read_studies(root, "train", views=1, annotation=annotation, check=False)
    except ValueError as error:
        logger.info("copied reports are not counted: %s", error)
        return []
    return [study["report"] for study in studies]


def report_metrics(
    generated: Sequence[str], references: Sequence[str], *, organ: str, training: Sequence[str] = ()
) -> dict[str, float]:
    """All metrics of generated reports: words, entities of ``organ``, of the chest CheXpert's observations, variety.

    Raises:
        ValueError: not as many generated reports as references, or none; no entities are known of ``organ``.
    """
    entities = read_entities(organ)
    metrics = text_metrics(generated, references) | entity_metrics(generated, references, entities)
    metrics |= status_scores(generated, references, entities)
    if organ == "chest":
        metrics |= observation_scores(generated, references)
    return metrics | variety(generated, training)


class ReportMetrics:
    """Handler of the evaluation: all text metrics, entity metrics, and the share of distinct reports.

    ``per_case.csv`` gets each study's BLEU-4, ROUGE-L, CIDEr-D, mean probability of a token, and :meth:`numbers`.

    Args:
        organ: whose entities are counted; "auto": those that the references speak of most (:func:`organ_of`). Of the
            chest, CheXpert's observations are counted, too.
        trained_on: reports of the training; :func:`variety` tells how many come again.
        radeval: further metrics by their names (:mod:`common.metrics.radeval`).

    Raises:
        ValueError: no such organ; the package of ``radeval`` is not installed.
    """

    def __init__(self, *, organ: str, trained_on: Sequence[str] = (), radeval: str = "") -> None:
        self.organ, self.trained_on, self.radeval = organ, trained_on, names_of(radeval)
        if self.radeval:
            import_package("radeval", package="radeval", extra=None)
        if organ != "auto":
            read_entities(organ)
        self.texts: dict[str, list[str]] = {}
        self.columns: dict[str, list[float]] = {}

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._clear)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, self._compute)

    def numbers(self, item: dict) -> dict[str, float]:
        """Columns of ``per_case.csv`` for one study."""
        return {"probability": float(item["log_probs"][item["log_probs"] < 0].mean().exp())}

    def summary(self, columns: dict[str, torch.Tensor]) -> dict[str, float]:
        """Metrics of all studies' ``columns``."""
        return {}

    def _clear(self, _: Engine) -> None:
        self.texts, self.columns = {"text": [], "report": []}, {}

    def _collect(self, engine: Engine) -> None:
        for item in engine.state.output:  # type: ignore[union-attr]
            require_numbers(str(item.get("study", "a case of this batch")), item)
            for name, texts in self.texts.items():
                texts.append(item[name])
            for name, value in self.numbers(item).items():
                self.columns.setdefault(name, []).append(value)

    def _compute(self, engine: Engine) -> None:
        generated, references = (gather(texts) for texts in self.texts.values())
        columns = {name: torch.tensor(gather(values)) for name, values in self.columns.items()}
        organ = (organ_of(references) or "thyroid") if self.organ == "auto" else self.organ
        if organ != self.organ:
            logger.info("entities of the %s are counted, of which the references speak; --organ names another", organ)
        metrics = report_metrics(generated, references, organ=organ, training=self.trained_on)
        metrics |= radeval_scores(generated, references, self.radeval)
        if isnan(metrics.get("chexpert_f1_14_micro", 0.0)):
            logger.warning("chexpert_*: no reference names an observation; the labeller reads English alone")
        engine.state.metrics.update(metrics | self.summary(columns))
        pairs = [([tokens_of(a)], [tokens_of(b)]) for a, b in zip(generated, references, strict=True)]
        details = {"bleu_4": [bleu(*p)["bleu_4"] for p in pairs], "rouge_l": [rouge_l(*p) for p in pairs]}
        details["cider_d"] = cider_d_each(*([tokens_of(text) for text in side] for side in (generated, references)))
        details_of = {name: torch.tensor(values) for name, values in details.items()}
        engine.state.metric_details |= details_of | columns  # type: ignore[attr-defined]
