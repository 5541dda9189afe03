"""Relational memory of R2Gen (Chen et al. 2020, 2.2 and 2.3): what was written so far steers the decoder's norms.

A few slots are rewritten at each word; layer norms of the decoder add to their scale and shift what small networks read
from the slots. The slots depend on the words alone, so generation carries them as a state and a step costs one word.
"""

import torch
from torch import nn

from common.nn.attention import MultiHeadAttention, xavier


class RelationalMemory(nn.Module):
    """Slots (N, slots, dim), rewritten by one word at a time."""

    def __init__(self, *, dim: int = 512, slots: int = 3, heads: int = 8, dropout: float = 0.1) -> None:
        super().__init__()
        self.slots, self.dim = slots, dim
        self.attention = MultiHeadAttention(dim=dim, heads=heads, dropout=dropout)
        self.mlp = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, dim), nn.ReLU())
        self.of_word, self.of_slots = nn.Linear(dim, 2 * dim), nn.Linear(dim, 2 * dim)
        xavier(self)

    @torch.jit.export
    def start(self, words: torch.Tensor) -> torch.Tensor:
        """Slots (N, slots, dim) before the first word: rows of the identity; for ``words`` (N, ..., dim)."""
        first = torch.eye(self.slots, self.dim, dtype=words.dtype, device=words.device)
        return first.expand(words.shape[0], -1, -1)

    def forward(self, words: torch.Tensor, slots: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Slots after each of ``words`` (N, T, dim), flattened (N, T, slots * dim), and after the last."""
        seen, gates = self.attention.keys_values(words), self.of_word(words)  # of all words at once
        results = torch.jit.annotate(list[torch.Tensor], [])
        for position in range(words.shape[1]):
            slots = self.rewrite(slots, seen[:, :, :, position : position + 1], gates[:, position : position + 1])
            results.append(slots.flatten(1))  # (N, slots * dim)
        return torch.stack(results, dim=1), slots

    @torch.jit.export
    def rewrite(self, slots: torch.Tensor, word: torch.Tensor, gates: torch.Tensor) -> torch.Tensor:
        """Slots after one word, of which ``word`` are keys and values and ``gates`` (N, 1, 2 * dim) the gates' part."""
        keys_values = torch.cat([self.attention.keys_values(slots), word], dim=3)
        new = slots + self.attention.attend(slots, keys_values)
        new = new + self.mlp(new)
        write, keep = (gates + self.of_slots(slots.tanh())).sigmoid().chunk(2, dim=2)
        return write * new.tanh() + keep * slots


class NormModulation(nn.Module):
    """Additions to scale and shift of several layer norms, each by a small network of its own: linear, ReLU, linear.

    All are computed in two products.
    """

    def __init__(self, *, norms: int, inside: int, dim: int) -> None:
        super().__init__()
        self.count, self.dim = 2 * norms, dim
        self.inner = nn.Linear(inside, self.count * dim)
        self.outer_weight = nn.Parameter(torch.empty(self.count, dim, dim))  # (count, in, out)
        self.outer_bias = nn.Parameter(torch.full([self.count, 1, dim], 0.1))
        nn.init.constant_(self.inner.bias, 0.1)
        for part in [*self.inner.weight.detach().split(dim), *self.outer_weight.detach()]:
            nn.init.xavier_uniform_(part)

    def forward(self, slots: torch.Tensor) -> torch.Tensor:
        """``slots`` (N, T, inside) to (norms, 2, N, T, dim), scale and shift."""
        inner = self.inner(slots.flatten(0, 1)).relu().unflatten(1, [self.count, self.dim])  # (N * T, count, dim)
        outer = torch.baddbmm(self.outer_bias, inner.transpose(0, 1), self.outer_weight)  # (count, N * T, dim)
        return outer.unflatten(1, [slots.shape[0], slots.shape[1]]).unflatten(0, [-1, 2])  # (norms, 2, N, T, dim)


class RelationalNorms(nn.Module):
    """Relational memory, and what it adds to the ``norms`` layer norms of each of the decoder's ``layers``."""

    def __init__(
        self, *, layers: int, norms: int, dim: int = 512, slots: int = 3, heads: int = 8, dropout: float = 0.1
    ) -> None:
        super().__init__()
        self.layers = layers
        self.memory = RelationalMemory(dim=dim, slots=slots, heads=heads, dropout=dropout)
        self.modulation = NormModulation(norms=layers * norms, inside=slots * dim, dim=dim)

    @torch.jit.export
    def start(self, words: torch.Tensor) -> torch.Tensor:
        """Slots (N, slots, dim) before the first of ``words`` (N, ..., dim)."""
        return self.memory.start(words)

    def forward(self, words: torch.Tensor, slots: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Modulation (layers, norms, 2, N, T, dim) at ``words`` (N, T, dim), and the slots after the last."""
        results, slots = self.memory(words, slots)
        return self.modulation(results).unflatten(0, [self.layers, -1]), slots  # (layers, norms, 2, N, T, dim)
