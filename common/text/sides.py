"""Left and right in texts and vocabularies: what changes when an image is mirrored."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch

PAIRS = (("left", "right"), ("左", "右"))


def swap_sides(text: str, pairs: Sequence[tuple[str, str]] = PAIRS) -> str:
    """``text`` with the words of ``pairs`` in each other's place.

    A word of Latin letters is swapped as a whole, with its capital; Chinese characters wherever they stand.
    """
    other = {a: b for pair in pairs for a, b in (tuple(pair), tuple(pair)[::-1])}
    words = [rf"\b{word}\b" if word.isascii() else word for word in other]

    def swapped(match: re.Match[str]) -> str:
        word = other[match[0].lower()]
        return word.capitalize() if match[0][0].isupper() else word

    return re.sub("|".join(words), swapped, text, flags=re.IGNORECASE)


def mirrored_ids(*, tokenizer: Any, enabled: bool) -> torch.Tensor | None:
    """The id of the token for the other side, int64 (vocabulary,), for each token; None unless ``enabled``.

    A token without a counterpart in the vocabulary stays.

    Args:
        tokenizer: of this package, or of transformers.
    """
    if not enabled:
        return None
    ids = (tokenizer if hasattr(tokenizer, "get_vocab") else tokenizer.backend).get_vocab()
    table = torch.arange(max(ids.values()) + 1)
    for token, index in ids.items():
        table[index] = ids.get(swap_sides(token), index)
    return table


def mirrored_text(input_ids: torch.Tensor, sides: torch.Tensor) -> torch.Tensor:
    """``input_ids`` (B, L) with left and right swapped by :func:`mirrored_ids`."""
    return sides.to(input_ids.device)[input_ids]
