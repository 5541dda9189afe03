"""AKE's generator: which words of the report are about this image (our completion)."""

from __future__ import annotations

import torch
from torch import nn

from common.nn.attention import MultiHeadAttention, matmul_in_float32


class KeywordGenerator(nn.Module):
    """AKE: what of the report hurts most when erased, as two logits a word: its sentence, and the word within it.

    Words look at the image; the segmenter's attention on the word's sentence is a hint whose weight is learned. As one
    product, the easier half, which words carry a sentence, would drown the half that must look at the image.
    """

    def __init__(self, *, text_dim: int, pixel_dim: int, heads: int = 4, mass_weight: float = 0.3) -> None:
        super().__init__()
        self.look = MultiHeadAttention(dim=text_dim, memory_dim=pixel_dim, heads=heads, dropout=0.0)
        self.norm = nn.LayerNorm(text_dim)
        self.score = nn.Sequential(nn.Linear(3 * text_dim, text_dim), nn.ReLU(), nn.Linear(text_dim, 2))
        self.mass_weight = nn.Parameter(torch.tensor(mass_weight), requires_grad=mass_weight != 0)

    def forward(
        self,
        words: torch.Tensor,
        pixels: torch.Tensor,
        mass: torch.Tensor,
        is_word: torch.Tensor,
        sentence_ids: torch.Tensor,
    ) -> torch.Tensor:
        """Score words.

        Args:
            words: (B, L, D).
            pixels: (B, N, C).
            mass: (B, L), attention of the predicted foreground on each word.
            is_word: (B, L), 1 for words and 0 for padding and special tokens.
            sentence_ids: int64 (B, L).

        Returns:
            Logits (B, L, 2): the word's sentence is about this image; the word carries its sentence. Meaningless where
            ``is_word`` is 0.
        """
        seen = self.norm(self.look(words, pixels))
        logits = self.score(torch.cat([words, seen, words * seen], dim=2))
        hint = torch.log(sum_by_sentence(mass * is_word, sentence_ids) + 1e-3)
        mean = (hint * is_word).sum(1, keepdim=True) / is_word.sum(1, keepdim=True).clamp(min=1.0)
        return torch.stack([logits[:, :, 0] + self.mass_weight * (hint - mean), logits[:, :, 1]], dim=2)


def keyword_probabilities(logits: torch.Tensor, is_word: torch.Tensor) -> torch.Tensor:
    """Probability that a word is about this image, (B, L): that its sentence is, of which every word has half.

    The other half is for words that carry the sentence. With all of it, words would differ more by what they are than
    by the image: erased alone, most attribute words cost little, for the others stand in for them.
    """
    sentence, word = torch.sigmoid(logits.float()).unbind(dim=2)
    return sentence * (1 + word) / 2 * is_word


def sum_by_sentence(values: torch.Tensor, sentence_ids: torch.Tensor) -> torch.Tensor:
    """For each word the sum of ``values`` (B, L) over its sentence, (B, L)."""
    same = (sentence_ids[:, :, None] == sentence_ids[:, None, :]).to(values.dtype)
    return matmul_in_float32(same, values[:, :, None])[:, :, 0]
