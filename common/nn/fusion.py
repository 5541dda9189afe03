"""Where text meets pixels: FiLM, and pixel-to-word attention with a null word."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from common.nn.attention import matmul_in_float32


class FiLM(nn.Module):
    """Feature-wise linear modulation, ``mul(condition) * features + add(condition)`` (Perez et al. 2018, eq. 1).

    Starts as the identity. The projections are linear layers as in CLIPSeg, so its weights fit.
    """

    def __init__(self, *, condition_dim: int, channels: int) -> None:
        super().__init__()
        self.mul = nn.Linear(condition_dim, channels)
        self.add = nn.Linear(condition_dim, channels)
        nn.init.zeros_(self.mul.weight)
        nn.init.ones_(self.mul.bias)
        nn.init.zeros_(self.add.weight)
        nn.init.zeros_(self.add.bias)

    def forward(self, features: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """Modulate ``features`` (B, C, ...) by ``condition`` (B, D)."""
        shape = [features.shape[0], features.shape[1]] + [1] * (features.dim() - 2)
        return self.mul(condition).view(shape) * features + self.add(condition).view(shape)  # (B, C, ...)


class PixelWordAttention(nn.Module):
    """Every pixel attends to the words of a report and to one learned null word (AKE-SSFA's SSFA; our completion).

    Scores are ``scale`` times the cosine of query and key. Softmax is invariant to a common factor of all weights:
    without the null word a uniformly small keyword mask would remove nothing. A word with ``keep`` 0 is no key at all;
    ``0 < keep < 1`` lowers its score by ``2 * scale * (1 - keep)``, the whole range of scores where nothing is kept.
    """

    def __init__(self, *, channels: int, text_dim: int, dim: int, scale: float = 10.0) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, dim, 1)
        self.key = nn.Linear(text_dim, dim)
        self.value = nn.Linear(text_dim, dim)
        self.null_key = nn.Parameter(torch.randn(dim))
        self.null_value = nn.Parameter(torch.zeros(dim))
        self.scale = scale

    def forward(
        self, features: torch.Tensor, words: torch.Tensor, keep: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Attend.

        Args:
            features: (B, C, H, W).
            words: (B, L, D).
            keep: (B, L) in [0, 1]; 0 for padding.

        Returns:
            Semantic map (B, dim, H, W), and attention (B, H*W, 1 + L) whose first column is the null word's.
        """
        batch, height, width = features.shape[0], features.shape[2], features.shape[3]
        query = F.normalize(self.query(features).float().flatten(2).transpose(1, 2), dim=2)  # (B, HW, d)
        key = torch.cat([self.null_key.float().expand(batch, 1, -1), self.key(words).float()], dim=1)  # (B, 1+L, d)
        null_value = self.null_value.to(words.dtype).expand(batch, 1, -1)
        value = torch.cat([null_value, self.value(words).to(words.dtype)], dim=1)  # (B, 1+L, d)
        bias = (-2.0 * self.scale * (1.0 - keep)).masked_fill(keep <= 0, float("-inf"))
        bias = F.pad(bias, [1, 0])[:, None, :]  # (B, 1, 1+L)
        scores = self.scale * matmul_in_float32(query, F.normalize(key, dim=2).transpose(1, 2))  # (B, HW, 1+L)
        attention = torch.softmax(scores + bias, dim=-1)
        semantic = torch.matmul(attention.to(value.dtype), value)  # (B, HW, d)
        return semantic.transpose(1, 2).reshape(batch, -1, height, width), attention  # (B, d, H, W)

    def affinity(
        self,
        features: torch.Tensor,
        words: torch.Tensor,
        keep: torch.Tensor,
        sentence_ids: torch.Tensor,
        region: torch.Tensor,
    ) -> torch.Tensor:
        """Affinity of each image's region to each report of a batch, (B, B), by the query and key of the attention.

        The mean query over ``region`` (B, 1, H', W', in [0, 1]) is scored against the mean key of each sentence; the
        log of the mean of the exponentials over a report's sentences is its affinity. A report without words gets the
        null word's score.
        """
        weight = F.adaptive_avg_pool2d(region.float(), [features.shape[2], features.shape[3]])  # type: ignore[arg-type]
        mean = (self.query(features).float() * weight).sum((2, 3)) / weight.sum((2, 3)).clamp(min=1e-6)  # (B, d)
        mean = F.normalize(mean, dim=1)
        same = (sentence_ids[:, :, None] == sentence_ids[:, None, :]).float()  # (B, L, L)
        same = same * (keep > 0).float()[:, None, :]
        length = same.sum(2).clamp(min=1.0)  # words of each word's sentence
        key = F.normalize(matmul_in_float32(same, self.key(words)) / length[:, :, None], dim=2)  # (B, L, d)
        scores = matmul_in_float32(mean, key.flatten(0, 1).t())  # (B, B * L)
        scores = self.scale * scores.view(-1, key.shape[0], key.shape[1])  # (B, B, L), images by reports
        scores = (scores - torch.log(length)[None]).masked_fill(keep[None] <= 0, -1e4)  # a sentence counts once
        sentences = ((keep > 0).float() / length).sum(1)
        affinity = torch.logsumexp(scores, dim=2) - torch.log(sentences.clamp(min=1.0))[None]
        null = self.scale * matmul_in_float32(mean, F.normalize(self.null_key.float(), dim=0))[:, None]
        return torch.where(sentences[None] > 0, affinity, null)
