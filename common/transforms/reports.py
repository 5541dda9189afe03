"""Reports to token ids: what a text encoder reads, and what a decoder is to write."""

from __future__ import annotations

import logging
from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.transforms import Transform

from common.text.cache import LRUCache
from common.text.encoding import EncodedReport, encode_report
from common.text.tokenizer import BEGIN_ID, END_ID, WORD, SentenceTokenizer

logger = logging.getLogger(__name__)
KEPT = 4096  # encoded reports in memory


class TokenizeReportd(Transform):
    """MONAI dictionary transform: add ``input_ids``, ``attention_mask``, ``sentence_ids``, int64 (max_length,).

    A missing or empty report gives no token: the network then works on the image alone. Padding is id 0, mask 0.
    Ids that are there already, without a report, stay.

    Args:
        tokenizer: a :class:`ReportTokenizer` or :class:`HuggingFaceTokenizer`.
        max_length: tokens at most; a longer report is cut at a sentence, with one warning.
        key: the report's key in the data dictionary.

    Raises:
        ValueError: ``max_length`` is below 1.
    """

    def __init__(self, tokenizer: SentenceTokenizer, *, max_length: int = 128, key: str = "report") -> None:
        if max_length < 1:
            raise ValueError(
                f"max_length: {max_length} is below 1; pass the tokens that a report may have, such as 128"
            )
        self.tokenizer, self.max_length, self.key, self.warned = tokenizer, max_length, key, False
        self.known: LRUCache[str, EncodedReport] = LRUCache(KEPT)

    def __getstate__(self) -> dict[str, Any]:
        """Without what it has met: the same settings are the same recipe of a cache."""
        return {**self.__dict__, "warned": False, "known": LRUCache(KEPT)}

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        if self.key not in data and "input_ids" in data:  # they were made before, by the program that asks
            return dict(data)
        report = str(data.get(self.key) or "")
        encoded = self._encode(report)
        padding = [0] * (self.max_length - len(encoded.input_ids))
        return {
            **data,
            "input_ids": torch.tensor(encoded.input_ids + padding),
            "attention_mask": torch.tensor([1] * len(encoded.input_ids) + padding),
            "sentence_ids": torch.tensor(encoded.sentence_ids + padding),
        }

    def _encode(self, report: str) -> EncodedReport:
        return self.known.get(report, lambda: self._encode_anew(report))  # many images share a report, every epoch anew

    def _encode_anew(self, report: str) -> EncodedReport:
        encoded = encode_report(self.tokenizer, report, self.max_length)
        self._warn_if_cut(report, encoded)
        return encoded

    def _warn_if_cut(self, report: str, encoded: EncodedReport) -> None:
        kept = max((end for _, end in encoded.spans), default=0)
        if self.warned or not WORD.search(report, kept):
            return
        self.warned = True
        logger.warning(
            "report longer than max_length=%d tokens: cut after %r; further cuts are not reported",
            self.max_length,
            report[max(0, kept - 40) : kept],
        )


class TokenizeTargetd(Transform):
    """Add ``input_ids`` (begin and the report) and ``target_ids`` (the report and end), int64 (max_length,), padded.

    A longer report is cut after its last sentence that fits, so that its end is still an end; a first sentence that is
    too long alone is cut at the last position. The first cut is logged.
    """

    def __init__(self, tokenizer: SentenceTokenizer, *, max_length: int) -> None:
        self.tokenizer, self.max_length = tokenizer, max_length
        self.warned = False

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        encoded = encode_report(self.tokenizer, data["report"], self.max_length - 1)
        ids, last = encoded.input_ids, encoded.spans[-1][1] if encoded.spans else 0
        if not self.warned and any(c.isalnum() for c in data["report"][last:]):
            self.warned = True
            logger.warning(
                "report longer than max_length=%d tokens: cut before %r; further cuts are not reported",
                self.max_length, data["report"][last : last + 40],
            )  # fmt: skip
        padding = [0] * (self.max_length - 1 - len(ids))
        return {
            **data,
            "input_ids": torch.tensor([BEGIN_ID, *ids, *padding]),
            "target_ids": torch.tensor([*ids, END_ID, *padding]),
        }
