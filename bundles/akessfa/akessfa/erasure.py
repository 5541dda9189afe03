"""Hard masks over the words of a report, and what erasing sentences and words costs the segmenter.

A mask is float (B, L), 1 keeps a word and 0 erases it. Sentences are encoded apart, so erasing every word of a sentence
is the same as deleting it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch

from .loss import attribution_targets, word_share


class Erasure(NamedTuple):
    """K things chosen from each report: ids (B, K), whether the slot is used, masks without each (B, K, L)."""

    ids: torch.Tensor
    valid: torch.Tensor
    keep: torch.Tensor


def random_keep(sentence_ids: torch.Tensor) -> torch.Tensor:
    """Drop words (half of the reports) or sentences (the other half) at a rate drawn from U(0, 1) for each report."""
    batch, length = sentence_ids.shape
    rate = torch.rand(batch, 1, device=sentence_ids.device)
    words = torch.rand(batch, length, device=sentence_ids.device)
    sentences = torch.rand(batch, length, device=sentence_ids.device).gather(1, sentence_ids)
    by_sentence = torch.rand(batch, 1, device=sentence_ids.device) < 0.5
    return (torch.where(by_sentence, sentences, words) >= rate).float()


def choose_sentences(sentence_ids: torch.Tensor, is_word: torch.Tensor, count: int) -> Erasure:
    """Choose up to ``count`` random sentences of each report to erase; ids and words (B, L)."""
    batch = len(sentence_ids)
    total = int(sentence_ids.max()) + 1
    present = torch.zeros(batch, total, device=sentence_ids.device).scatter_add_(1, sentence_ids, is_word) > 0
    chosen, valid = _draw(present, count)
    keep = (sentence_ids[:, None, :] != chosen[:, :, None]).float()
    return Erasure(chosen, valid, keep)


def choose_words(candidates: torch.Tensor, count: int) -> Erasure:
    """Choose up to ``count`` random words of each report to erase, among ``candidates`` (B, L) bool."""
    chosen, valid = _draw(candidates, count)
    keep = torch.ones(*chosen.shape, candidates.shape[1], device=candidates.device)
    return Erasure(chosen, valid, keep.scatter(2, chosen[:, :, None], 0.0))


def _draw(present: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Indices (B, K) of random true positions of ``present`` (B, N), K at most ``count``; and which are true."""
    order = torch.rand(present.shape, device=present.device) - (~present).float()  # absent ones come last
    chosen = order.topk(min(count, present.shape[1]), dim=1).indices
    return chosen, present.gather(1, chosen)


class KeywordTargets(NamedTuple):
    """What the keyword generator shall say of each word and how much that counts, all (B, L)."""

    sentence: torch.Tensor  # in [0, 1]: how much the word's sentence explains the segmentation
    sentence_weight: torch.Tensor  # 1 for words of erased sentences
    word: torch.Tensor  # in [0, 1]: how much of its sentence's cost is the word's own
    word_weight: torch.Tensor  # above 0 for erased words


@torch.no_grad()
def keyword_targets(
    loss_of: Callable[[torch.Tensor], torch.Tensor],
    sentence_ids: torch.Tensor,
    is_word: torch.Tensor,
    *,
    sentences: int,
    words: int,
    margin: float,
    temperature: float,
    share: float,
) -> KeywordTargets:
    """Erase random sentences, each alone, then random words of the sentence that costs most, each alone.

    The targets depend on the segmenter alone. A word counts as much as its sentence explains.

    Args:
        loss_of: the segmenter's loss (B, V) under masks (B, V, L).
        sentence_ids, is_word: (B, L).
        sentences, words: how many are erased; with 0 words every word carries its sentence.
        margin, temperature: of :func:`akessfa.loss.attribution_targets`.
        share: of :func:`akessfa.loss.word_share`.
    """
    erasure = choose_sentences(sentence_ids, is_word, sentences)
    losses = loss_of(torch.cat([torch.ones_like(is_word)[:, None], erasure.keep], dim=1))
    cost = losses[:, 1:] - losses[:, :1]
    explained = attribution_targets(cost, erasure.valid, margin=margin, temperature=temperature)
    span, known = spread_to_words(explained, erasure, sentence_ids, is_word)
    if words == 0:
        return KeywordTargets(span, known, torch.ones_like(is_word), is_word)
    highest, winner = cost.masked_fill(~erasure.valid, float("-inf")).max(1, keepdim=True)
    erased = choose_words((sentence_ids == erasure.ids.gather(1, winner)) & (is_word > 0), words)
    share_of_sentence = word_share(loss_of(erased.keep) - losses[:, :1], highest, margin=margin, share=share)
    counted = explained.gather(1, winner) * erased.valid
    nothing = torch.zeros_like(is_word)
    return KeywordTargets(
        span,
        known,
        nothing.scatter_add(1, erased.ids, share_of_sentence * erased.valid),
        nothing.scatter_add(1, erased.ids, counted),
    )


def spread_to_words(
    targets: torch.Tensor, erasure: Erasure, sentence_ids: torch.Tensor, is_word: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Give each word its sentence's target (B, K); return targets and which words have one, both (B, L)."""
    mine = (sentence_ids[:, None, :] == erasure.ids[:, :, None]) & erasure.valid[:, :, None]  # (B, K, L)
    known = mine.any(1).float() * is_word
    return (targets[:, :, None] * mine).sum(1) * known, known
