"""A report as token ids, sentence by sentence, each token with the characters that it stands for."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import NamedTuple

from common.text.tokenizer import SentenceTokenizer

_SENTENCE_END = re.compile(r"(?<=[。！？；\n])|(?<=[.!?;])(?=\s|$)")


def split_sentences(report: str) -> list[tuple[int, int]]:
    """Start and end of each sentence of ``report``: cut after 。！？； and line ends, and after .!?; before a space."""
    cuts = [0, *(match.start() for match in _SENTENCE_END.finditer(report)), len(report)]
    return [(start, end) for start, end in pairwise(cuts) if report[start:end].strip()]


class EncodedReport(NamedTuple):
    """Ids, the sentence (0, 1, ...) and the characters of each token of a report."""

    input_ids: list[int]
    sentence_ids: list[int]
    spans: list[tuple[int, int]]


def encode_report(tokenizer: SentenceTokenizer, report: str, max_length: int) -> EncodedReport:
    """Encode ``report`` sentence by sentence; one longer than ``max_length`` tokens is cut after a sentence.

    A first sentence that is too long alone is cut after its last token that fits. Each cut is logged by
    :class:`TokenizeReportd` once.
    """
    encoded = EncodedReport([], [], [])
    for index, (start, end) in enumerate(split_sentences(report)):
        tokens = tokenizer.encode(report[start:end])
        if index == 0:
            tokens = tokens[:max_length]
        if len(encoded.input_ids) + len(tokens) > max_length:
            break
        encoded.input_ids.extend(token.id for token in tokens)
        encoded.sentence_ids.extend(index for _ in tokens)
        encoded.spans.extend((start + token.start, start + token.end) for token in tokens)
    return encoded
