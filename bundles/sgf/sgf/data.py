"""Studies on their way into the network: views, report, label; alike in training, evaluation and inference."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.transforms import Compose, Lambdad, SelectItemsd

from common.cli.atomic import write_json
from common.datasets.packed import packed
from common.engine.stated_findings import LABELS, StatedFindings
from common.text.distiller import FILES, NOISE, Distiller, load, save, topics
from common.text.tokenizer import SentenceTokenizer
from common.transforms.load import check_size
from common.transforms.reports import TokenizeTargetd
from common.transforms.views import MARGIN, LoadViewsd, RandCropViewsd, StandardiseViewsd

logger = logging.getLogger(__name__)
UNKNOWN_LABEL = NOISE  # of studies without a cluster: none is learned from them


def labelled(*, studies: Sequence[dict], distiller: Distiller | None, clusters: int, fit: bool) -> Sequence[dict]:
    """``studies`` with ``label``: their own, or the one that ``distiller`` finds.

    Args:
        distiller: None: studies without a label keep none.
        clusters: labels are below.
        fit: cluster these reports; else label them by what was fitted.

    Raises:
        ValueError: some studies have a label and others not; a label is not below ``clusters``.
    """
    known = sum(study["label"] is not None for study in studies)
    if known == len(studies):
        logger.info("labels: the data set's own")
        labels = [study["label"] for study in studies]
    elif known:
        raise ValueError(f"labels: {known} of {len(studies)} studies have one; let distill.json label all of them")
    elif distiller is None:
        labels = [UNKNOWN_LABEL] * len(studies)
    elif not fit and distiller.vectors is None:
        raise ValueError(
            f"labels: the training studies have their own, {len(studies)} others have none; let distill.json label all"
        )
    else:
        reports = [study["report"] for study in studies]
        labels = (distil(distiller, reports) if fit else distiller.assign(reports)).tolist()
    if max(labels) >= clusters:
        raise ValueError(f"clusters: {clusters} must be above the largest label, {max(labels)}; pass --clusters")
    return packed([{**study, "label": int(label)} for study, label in zip(studies, labels, strict=True)])


def distil(distiller: Distiller, reports: Sequence[str]) -> np.ndarray:
    """Labels of the training reports.

    Raises:
        ValueError: there are too few of them.
    """
    try:
        labels = distiller.fit(reports)
    except (ValueError, TypeError) as error:
        raise ValueError(f"labels: {len(reports)} training reports cannot be clustered: {error}") from error
    silhouette, count = distiller.silhouette(), len(set(labels.tolist()) - {NOISE})
    logger.info("labels: %d clusters of %d training reports, silhouette %.3f", count, len(reports), silhouette)
    return labels


def save_labels(*, folder: str, distiller: Distiller, studies: Sequence[Mapping], analyzer: Any) -> list[Path]:
    """Keep beside the weights what names a topic (``topics.json``) and, if it was fitted, the distiller; return paths.

    A distiller that an earlier run left in ``folder`` is removed.
    """
    reports, labels = [study["report"] for study in studies], np.array([study["label"] for study in studies])
    results = topics(reports, labels, analyzer=analyzer, words=8)
    paths = [Path(folder) / name for name in ("topics.json", *FILES)]
    write_json(paths[0], {str(label): words for label, words in results.items()})
    if distiller.vectors is None:
        for path in paths[1:]:
            path.unlink(missing_ok=True)
        return paths[:1]
    save(distiller, folder)
    return paths


def saved_distiller(*, folder: str, vectorizer: Any) -> Distiller | None:
    """What :func:`save_labels` kept; None where the training data brought their own labels."""
    return load(folder, vectorizer=vectorizer) if (Path(folder) / "distiller.json").is_file() else None


def training_transforms(
    *,
    tokenizer: SentenceTokenizer,
    stated: StatedFindings,
    views: int,
    size: int,
    max_length: int,
    mirror: float,
) -> Compose:
    """Views cut at random, the report's tokens, its label and ``embedding``, and what it states.

    Args:
        mirror: share of the views that are mirrored (published: 0.5); 0 where reports name sides of an image.

    Raises:
        ValueError: ``size`` is no multiple of 32.
    """
    check_size(size)
    return Compose(
        [
            LoadViewsd(views=views, side=round(size * MARGIN)),
            TokenizeTargetd(tokenizer, max_length=max_length),
            RandCropViewsd(size=size, mirror=mirror),
            StandardiseViewsd(),
            stated,
            SelectItemsd(keys=["image", "view_mask", "input_ids", "target_ids", "label", "embedding", *LABELS]),
        ]
    )


def validation_transforms(*, views: int, size: int) -> Compose:
    """Whole views; the report stays text."""
    check_size(size)
    return Compose(
        [
            LoadViewsd(views=views, side=size),
            StandardiseViewsd(),
            SelectItemsd(keys=["image", "view_mask", "report", "label", "study"]),
        ]
    )


def inference_transforms(*, views: int, size: int) -> Compose:
    """Whole views; ``images`` stays, to be drawn on, a line for each path: lists of two lengths make no batch."""
    check_size(size)
    return Compose([LoadViewsd(views=views, side=size), StandardiseViewsd(), Lambdad(keys="images", func="\n".join)])
