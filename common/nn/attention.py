"""Multi-head attention over keys and values that can be kept, and the layer norm of R2Gen's family."""

from __future__ import annotations

from typing import Optional

import torch
import torch.nn.functional as F
from torch import nn


class SampleLayerNorm(nn.Module):
    """``gamma * (x - mean) / (std + eps) + beta`` with the sample standard deviation (divisor n - 1), eps added to it.

    As in the published code of R2Gen, SGF and D2R-Net; ``nn.LayerNorm`` divides by n and adds eps to the variance.
    """

    def __init__(self, features: int, *, eps: float = 1e-6) -> None:
        super().__init__()
        self.gamma, self.beta = nn.Parameter(torch.ones(features)), nn.Parameter(torch.zeros(features))
        self.eps = eps

    def forward(self, x: torch.Tensor, modulation: Optional[torch.Tensor] = None, index: int = 0) -> torch.Tensor:
        """Norm of ``x`` over its last axis.

        Args:
            modulation: ``(norms, 2, *x.shape)``, of which ``index`` is added to gamma and beta (R2Gen's memory-driven
                conditional layer norm).
        """
        wide = x.float()  # a deviation of numbers with 8 bits is off by percents
        std, mean = torch.std_mean(wide, dim=-1, keepdim=True)
        if modulation is None:
            return (self.gamma * (wide - mean) / (std + self.eps) + self.beta).to(self.gamma.dtype)
        gamma, beta = self.gamma + modulation[index, 0], self.beta + modulation[index, 1]
        return (gamma * (wide - mean) / (std + self.eps) + beta).to(self.gamma.dtype)


class MultiHeadAttention(nn.Module):
    """Scaled dot-product attention in ``heads`` parts (Vaswani et al. 2017), keys and values projected apart.

    Args:
        memory_dim: width of what is attended to; None: ``dim``.

    Raises:
        ValueError: ``dim`` is no multiple of ``heads``.
    """

    def __init__(self, *, dim: int, heads: int = 8, dropout: float = 0.1, memory_dim: Optional[int] = None) -> None:
        super().__init__()
        if dim % heads:
            raise ValueError(f"heads: {heads} do not divide the width {dim}")
        inside = dim if memory_dim is None else memory_dim
        self.query, self.key = nn.Linear(dim, dim), nn.Linear(inside, dim)
        self.value, self.out = nn.Linear(inside, dim), nn.Linear(dim, dim)
        self.heads, self.dropout = heads, dropout

    def split(self, x: torch.Tensor) -> torch.Tensor:
        """(B, T, dim) to (B, heads, T, dim / heads)."""
        return x.unflatten(2, [self.heads, -1]).transpose(1, 2)  # (B, heads, T, d)

    def keys_values(self, source: torch.Tensor) -> torch.Tensor:
        """Keys and values (2, B, heads, S, dim / heads) of ``source`` (B, S, dim)."""
        return torch.stack([self.split(self.key(source)), self.split(self.value(source))])

    def attend(
        self, x: torch.Tensor, keys_values: torch.Tensor, visible: Optional[torch.Tensor] = None
    ) -> torch.Tensor:
        """Attend from ``x`` (B, T, dim).

        Args:
            keys_values: (2, B, heads, S, dim / heads), of :meth:`keys_values`.
            visible: bool, broadcast to (B, heads, T, S); each query sees one key at least.
        """
        results = F.scaled_dot_product_attention(
            self.split(self.query(x)),
            keys_values[0],
            keys_values[1],
            attn_mask=visible,
            dropout_p=self.dropout if self.training else 0.0,
        )
        return self.out(results.transpose(1, 2).flatten(2))  # (B, T, dim)

    def forward(self, x: torch.Tensor, source: torch.Tensor, visible: Optional[torch.Tensor] = None) -> torch.Tensor:
        """Attend from ``x`` (B, T, dim) to ``source`` (B, S, dim)."""
        return self.attend(x, self.keys_values(source), visible)

    @torch.jit.export
    def weights(self, x: torch.Tensor, source: torch.Tensor, visible: Optional[torch.Tensor] = None) -> torch.Tensor:
        """The attention itself, (B, heads, T, S), for pictures."""
        query, key = self.split(self.query(x)), self.split(self.key(source))
        scores = query @ key.transpose(2, 3) / query.shape[3] ** 0.5  # (B, heads, T, S)
        if visible is not None:
            scores = scores.masked_fill(~visible, float("-inf"))
        return scores.softmax(dim=3)


def matmul_in_float32(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """``a @ b`` with all bits, also where autocast would take fewer: scores that a softmax or a hinge tells apart."""
    if torch.jit.is_scripting():
        return torch.matmul(a.float(), b.float())
    return _matmul_outside_autocast(a, b)


@torch.jit.unused
def _matmul_outside_autocast(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    if not torch.is_autocast_enabled("cpu") and not torch.is_autocast_enabled("cuda"):
        return torch.matmul(a.float(), b.float())
    with torch.autocast(a.device.type, enabled=False):
        return torch.matmul(a.float(), b.float())


def xavier(module: nn.Module) -> None:
    """Fill all matrices as published, the embedding too.

    With the embedding's own default of variance 1, times sqrt(dim), the words drown what comes from the memory: the
    decoder then learns to ignore the image.
    """
    for parameter in module.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)
