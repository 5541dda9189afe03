"""Augmentation of images that come with a report: what moves the image must change the words."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

from monai.transforms import RandomizableTransform


class RandMirrorReportd(RandomizableTransform):
    """Mirror left and right of ``keys`` (C, W, H) and swap the words for the sides in the report.

    A mirrored left lobe is a right lobe, so a mirrored image with swapped words is a plausible case. Put it before the
    report is tokenized.

    Args:
        pairs: words that change places; a word of Latin letters is swapped as a whole, with its capital.
    """

    def __init__(
        self,
        keys: Sequence[str],
        *,
        prob: float = 0.5,
        pairs: Sequence[tuple[str, str]] = (("left", "right"), ("左", "右")),
        report_key: str = "report",
    ) -> None:
        super().__init__(prob)
        self.keys, self.report_key = keys, report_key
        self.other = {a: b for pair in pairs for a, b in (tuple(pair), tuple(pair)[::-1])}
        words = [rf"\b{word}\b" if word.isascii() else word for word in self.other]
        self.pattern = re.compile("|".join(words), re.IGNORECASE)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        result = dict(data)
        self.randomize(None)
        if not self._do_transform:
            return result
        for key in self.keys:
            result[key] = result[key].flip(1)
        result[self.report_key] = self.pattern.sub(self._swap, str(result.get(self.report_key) or ""))
        return result

    def _swap(self, match: re.Match[str]) -> str:
        word = self.other[match[0].lower()]
        return word.capitalize() if match[0][0].isupper() else word
