"""Sentences of a generated report: how sure their words are, and where they look."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from common.text.tokenizer import SentenceTokenizer

ENDS = frozenset("。！？；.!?;")


class Sentence(NamedTuple):
    """One sentence of a generated report.

    Attributes:
        text: of the sentence.
        tokens: positions of its tokens in the report.
        probability: geometric mean of its tokens'.
        attention: (views, h, w), mean over its tokens.
    """

    text: str
    tokens: list[int]
    probability: float
    attention: np.ndarray


class Part(NamedTuple):
    """A sentence without what it looks at; attributes as of :class:`Sentence`."""

    text: str
    tokens: list[int]
    probability: float


def parts_of(item: dict, tokenizer: SentenceTokenizer) -> list[Part]:
    """The report's sentences, of ``ids`` and ``log_probs`` (T,); one that does not end is a sentence, too."""
    ids = [i for i in item["ids"].tolist() if i not in tokenizer.special_ids]
    groups: list[list[int]] = [[]]
    for position, token in enumerate(ids):
        groups[-1].append(position)
        if tokenizer.decode([token]) in ENDS:
            groups.append([])
    log_probs = item["log_probs"].cpu()
    return [
        Part(tokenizer.decode([ids[position] for position in group]), group, float(log_probs[group].mean().exp()))
        for group in groups
        if group
    ]


def sentences_of(item: dict, tokenizer: SentenceTokenizer) -> list[Sentence]:
    """:func:`parts_of` with their ``attention`` (T, views, h, w)."""
    attention = item["attention"].cpu()
    return [Sentence(*part, attention[part.tokens].mean(0).numpy()) for part in parts_of(item, tokenizer)]


def token_entry(tokenizer: SentenceTokenizer, token: int, log_prob: float) -> dict:
    """A token and its probability, for ``predictions.json``."""
    return {"token": tokenizer.decode([token]), "probability": round(math.exp(log_prob), 4)}
