"""Which entities a report mentions, and how well a generated report mentions the same (clinical efficacy, SGF).

The paper names the entities of the ultrasound organs; those of the chest and all words are ours (``entities.json``,
Chinese and English). A mention is a mention, denied or not: "no lesion" mentions the lesion. So the measure says what a
report speaks of; what it says of it is :mod:`common.metrics.entity_status`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from sklearn.metrics import precision_recall_fscore_support

FILE = Path(__file__).with_name("entities.json")


def read_entities(organ: str, *, path: str | Path = FILE) -> dict[str, list[str]]:
    """Words of each entity of ``organ``, in lower case, in all languages.

    Raises:
        ValueError: the file has no such organ.
    """
    organs = json.loads(Path(path).read_text(encoding="utf-8"))
    if organ not in organs:
        raise ValueError(f"organ: {organ!r} is none of {sorted(organs)}, the organs of {str(path)!r}")
    return {
        entity: [word.lower() for words in languages.values() for word in words]
        for entity, languages in organs[organ].items()
    }


@lru_cache
def pattern_of(words: tuple[str, ...]) -> re.Pattern[str]:
    """Any of ``words``, in lower case, at the beginning of a word, or anywhere in Chinese."""
    return re.compile("|".join(rf"(?<![a-z]){re.escape(word)}" for word in words))


def mentions(reports: Sequence[str], entities: dict[str, list[str]]) -> np.ndarray:
    """Bool (reports, entities): whether a word of the report begins with one of the entity's words.

    Chinese is not spaced: there an entity's word may stand anywhere.
    """
    patterns = [pattern_of(tuple(words)) for words in entities.values()]
    lower = [report.lower() for report in reports]
    return np.array([[bool(pattern.search(report)) for pattern in patterns] for report in lower])


def organ_of(reports: Sequence[str]) -> str | None:
    """The organ whose entities ``reports`` speak of most often; None of no report, or where none is mentioned."""
    counts = {
        organ: int(mentions(reports, read_entities(organ)).sum()) if reports else 0
        for organ in json.loads(FILE.read_text(encoding="utf-8"))
    }
    best = max(counts, key=counts.__getitem__)
    return best if counts[best] else None


def entity_metrics(
    predictions: Sequence[str], references: Sequence[str], entities: dict[str, list[str]]
) -> dict[str, float]:
    """``entity_accuracy``: share of reports whose whole vector of mentions is right; ``entity_precision``,
    ``entity_recall`` and ``entity_f1`` over all reports and entities together (0 where nothing is mentioned).

    Raises:
        ValueError: not as many predictions as references, or none.
    """
    if len(predictions) != len(references) or not references:
        raise ValueError(f"reports: {len(predictions)} predictions for {len(references)} references; give one each")
    results, targets = mentions(predictions, entities), mentions(references, entities)
    flat = targets.ravel(), results.ravel()  # all entities count alike
    rates = precision_recall_fscore_support(*flat, average="binary", zero_division=0)[:3]
    names = ("entity_precision", "entity_recall", "entity_f1")
    return {
        "entity_accuracy": float((results == targets).all(1).mean()),
        **dict(zip(names, map(float, rates), strict=True)),
    }
