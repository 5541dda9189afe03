"""Hard masks over the words of a report, and what erasing one sentence costs the segmenter.

A mask is float (B, L), 1 keeps a word and 0 erases it. Sentences are encoded apart, so erasing every word of a sentence
is the same as deleting it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import nn

from .loss import attribution_targets, segmentation_loss


class Erasure(NamedTuple):
    """K sentences chosen from each report: their ids (B, K), whether the slot is used, masks without each (B, K, L)."""

    sentences: torch.Tensor
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
    order = torch.rand(batch, total, device=sentence_ids.device) - (~present).float()
    chosen = order.topk(min(count, total), dim=1).indices  # absent sentences come last
    valid = present.gather(1, chosen)
    keep = (sentence_ids[:, None, :] != chosen[:, :, None]).float()
    return Erasure(chosen, valid, keep)


@torch.no_grad()
def erasure_targets(
    segmenter: nn.Module, batch: dict[str, torch.Tensor], erasure: Erasure, *, margin: float, temperature: float
) -> torch.Tensor:
    """Targets of the keyword generator for the erased sentences, (B, K); they depend on the segmenter alone.

    ``batch`` holds ``image, label, input_ids, attention_mask, sentence_ids``. Call it with the segmenter in eval mode.
    """
    full = torch.ones_like(erasure.keep[:, :1])
    text = [batch[key] for key in ("input_ids", "attention_mask", "sentence_ids")]
    logits = segmenter(batch["image"], *text, torch.cat([full, erasure.keep], dim=1)).logits
    losses = segmentation_loss(logits.float(), batch["label"])  # (B, 1 + K)
    return attribution_targets(losses[:, 1:] - losses[:, :1], erasure.valid, margin=margin, temperature=temperature)


def spread_to_words(
    targets: torch.Tensor, erasure: Erasure, sentence_ids: torch.Tensor, is_word: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Give each word its sentence's target; return targets and which words have one, both (B, L)."""
    mine = (sentence_ids[:, None, :] == erasure.sentences[:, :, None]) & erasure.valid[:, :, None]  # (B, K, L)
    known = mine.any(1).float() * is_word
    return (targets[:, :, None] * mine).sum(1) * known, known
