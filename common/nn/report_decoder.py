"""Transformer from image tokens to a report, pre-norm, as published with R2Gen (Chen et al. 2020), SGF and D2R-Net.

``forward`` is teacher forcing. ``start``, ``step`` and ``select`` generate: the state is explicit, a step costs one
token, and keys and values of the memory are computed once. The beams of a study are queries of one cross-attention, so
that its memory is held once.
"""

import math
from typing import NamedTuple, Optional

import torch
import torch.nn.functional as F
from torch import nn

from common.nn.attention import MultiHeadAttention, SampleLayerNorm, xavier
from common.nn.cpu_layout import by_columns
from common.nn.published import accept_former_names
from common.nn.relational_memory import RelationalNorms


class FeedForward(nn.Module):
    """Two linear layers with ReLU and dropout between."""

    def __init__(self, *, dim: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.inner, self.outer, self.dropout = nn.Linear(dim, hidden), nn.Linear(hidden, dim), nn.Dropout(dropout)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(..., dim) to the same."""
        return self.outer(self.dropout(F.relu(self.inner(x))))


class EncoderLayer(nn.Module):
    """Self-attention and feed-forward, each on the norm of its input and added to it."""

    recomputable = True

    def __init__(self, *, dim: int, hidden: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.attention = MultiHeadAttention(dim=dim, heads=heads, dropout=dropout)
        self.feed_forward = FeedForward(dim=dim, hidden=hidden, dropout=dropout)
        self.norms = nn.ModuleList(SampleLayerNorm(dim) for _ in range(2))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor, visible: Optional[torch.Tensor]) -> torch.Tensor:
        """(B, S, dim) to the same; ``visible``: bool, broadcast to (B, heads, S, S)."""
        normed = self.norms[0](x)
        x = x + self.dropout(self.attention(normed, normed, visible))
        return x + self.dropout(self.feed_forward(self.norms[1](x)))


class MemoryEncoder(nn.Module):
    """Image tokens (B, S, dim) to the memory that the decoder reads; no positions, as published."""

    def __init__(
        self, *, dim: int = 512, hidden: int = 512, heads: int = 8, layers: int = 3, dropout: float = 0.1
    ) -> None:
        super().__init__()
        sizes = {"dim": dim, "hidden": hidden, "heads": heads}
        self.layers = nn.ModuleList(EncoderLayer(**sizes, dropout=dropout) for _ in range(layers))
        self.norm = SampleLayerNorm(dim)
        xavier(self)

    def forward(self, x: torch.Tensor, visible: Optional[torch.Tensor] = None) -> torch.Tensor:
        """(B, S, dim) to the same; ``visible``: bool (B, S), which tokens there are; None: all."""
        mask = None if visible is None else visible[:, None, None]
        for layer in self.layers:
            x = layer(x, mask)
        return self.norm(x)


class DecoderLayer(nn.Module):
    """Self-attention to the tokens so far, cross-attention to the memory, feed-forward.

    ``modulation``: (3, 2, B, T, dim), what a relational memory adds to the three norms; None: there is none.
    """

    recomputable = True

    def __init__(self, *, dim: int, hidden: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.self_attention = MultiHeadAttention(dim=dim, heads=heads, dropout=dropout)
        self.cross_attention = MultiHeadAttention(dim=dim, heads=heads, dropout=dropout)
        self.feed_forward = FeedForward(dim=dim, hidden=hidden, dropout=dropout)
        self.norms = nn.ModuleList(SampleLayerNorm(dim) for _ in range(3))
        self.dropout = nn.Dropout(dropout)
        accept_former_names(self, {"own.": "self_attention.", "cross.": "cross_attention."})

    def forward(
        self,
        x: torch.Tensor,
        causal: torch.Tensor,
        memory: torch.Tensor,
        visible: Optional[torch.Tensor],
        modulation: Optional[torch.Tensor],
    ) -> torch.Tensor:
        """``x`` (B, T, dim), which reads ``memory`` (B, S, dim), to the same.

        ``causal`` and ``visible``: bool, broadcast to (B, heads, T, T) and (B, heads, T, S).
        """
        normed = self.norms[0](x, modulation, 0)
        x = x + self.dropout(self.self_attention(normed, normed, causal))
        x = x + self.dropout(self.cross_attention(self.norms[1](x, modulation, 1), memory, visible))
        return x + self.dropout(self.feed_forward(self.norms[2](x, modulation, 2)))

    @torch.jit.export
    def attention_weights(
        self,
        x: torch.Tensor,
        causal: torch.Tensor,
        memory: torch.Tensor,
        visible: Optional[torch.Tensor],
        modulation: Optional[torch.Tensor],
    ) -> torch.Tensor:
        """Cross-attention (B, T, S) of this layer, mean over heads."""
        normed = self.norms[0](x, modulation, 0)
        x = x + self.self_attention(normed, normed, causal)
        return self.cross_attention.weights(self.norms[1](x, modulation, 1), memory, visible).mean(1)

    @torch.jit.export
    def step(
        self,
        x: torch.Tensor,
        position: int,
        self_kv: torch.Tensor,
        cross_kv: torch.Tensor,
        visible: torch.Tensor,
        modulation: Optional[torch.Tensor],
    ) -> torch.Tensor:
        """One token: ``x`` (B, K, dim); writes its keys and values into ``self_kv`` (2, B, K, heads, T, d)."""
        batch, beams = x.shape[0], x.shape[1]
        single = self.norms[0](x, modulation, 0).flatten(0, 1)[:, None]  # (B*K, 1, dim)
        new = self.self_attention.keys_values(single)[:, :, :, 0]  # (2, B*K, heads, d)
        self_kv[:, :, :, :, position] = new.unflatten(1, [batch, beams])  # (2, B, K, heads, d)
        results = self.self_attention.attend(single, self_kv[:, :, :, :, : position + 1].flatten(1, 2))  # (B*K, 1, dim)
        x = x + results[:, 0].unflatten(0, [batch, beams])  # (B, K, dim)
        x = x + self.cross_attention.attend(self.norms[1](x, modulation, 1), cross_kv, visible[:, None, None])
        return x + self.feed_forward(self.norms[2](x, modulation, 2))


class DecoderState(NamedTuple):
    """What generation carries from token to token.

    Attributes:
        self_kv: (layers, 2, B, K, heads, T, d), keys and values of the tokens so far, with room for more.
        cross_kv: (layers, 2, B, heads, S, d), those of the memory.
        visible: bool (B, S).
        slots: (B, K, slots, dim), of the relational memory; empty where there is none.
    """

    self_kv: torch.Tensor
    cross_kv: torch.Tensor
    visible: torch.Tensor
    slots: torch.Tensor


class ReportDecoder(nn.Module):
    """Memory to log-probabilities of the next token.

    Args:
        vocab_size: ids 0 .. vocab_size - 1.
        pad_id: tokens with this id are not seen, except at the first position (published files use 0 for begin, too).
        max_length: positions at most.
        slots, slot_heads: of the relational memory (R2Gen, D2R-Net); 0 slots: none (SGF).
    """

    positions: torch.Tensor

    def __init__(
        self,
        *,
        vocab_size: int,
        pad_id: int = 0,
        dim: int = 512,
        hidden: int = 512,
        heads: int = 8,
        layers: int = 3,
        dropout: float = 0.1,
        max_length: int = 512,
        slots: int = 0,
        slot_heads: int = 8,
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocab_size, dim)
        sizes = {"dim": dim, "hidden": hidden, "heads": heads}
        self.layers = nn.ModuleList(DecoderLayer(**sizes, dropout=dropout) for _ in range(layers))
        xavier(self)
        self.relational = None
        if slots > 0:
            self.relational = RelationalNorms(
                layers=layers, norms=3, dim=dim, slots=slots, heads=slot_heads, dropout=dropout
            )
        self.norm, self.logit, self.dropout = SampleLayerNorm(dim), nn.Linear(dim, vocab_size), nn.Dropout(dropout)
        self.register_buffer("positions", sinusoids(max_length, dim), persistent=False)
        self.pad_id, self.scale, self.max_length, self.room = pad_id, math.sqrt(dim), max_length, 32
        by_columns(self)

    def forward(self, ids: torch.Tensor, memory: torch.Tensor, visible: Optional[torch.Tensor] = None) -> torch.Tensor:
        """Log-probabilities (B, T, vocab_size): position k predicts token k + 1 of ``ids`` (B, T)."""
        return self.logit(self.hidden(ids, memory, visible)).float().log_softmax(dim=2)

    @torch.jit.export
    def hidden(self, ids: torch.Tensor, memory: torch.Tensor, visible: Optional[torch.Tensor] = None) -> torch.Tensor:
        """Last hidden states (B, T, dim); ``visible``: bool (B, S), which memory tokens there are."""
        causal, mask = self._causal(ids), None if visible is None else visible[:, None, None]
        x = self.dropout(self.embedding(ids) * self.scale + self.positions[: ids.shape[1]])
        modulation = self._modulation(x)
        for index, layer in enumerate(self.layers):
            x = layer(x, causal, memory, mask, None if modulation is None else modulation[index])
        return self.norm(x)

    def _modulation(self, words: torch.Tensor) -> Optional[torch.Tensor]:
        """(layers, 3, 2, B, T, dim) for ``words`` (B, T, dim) from the first one on."""
        if self.relational is None:
            return None
        return self.relational(words, self.relational.start(words))[0]

    def _causal(self, ids: torch.Tensor) -> torch.Tensor:
        """Bool (B, 1, T, T): which tokens each position sees."""
        seen = ids != self.pad_id
        seen[:, 0] = True
        length = ids.shape[1]
        return seen[:, None, None] & torch.ones(length, length, dtype=torch.bool, device=ids.device).tril()

    @torch.jit.export
    def attention(self, ids: torch.Tensor, memory: torch.Tensor, visible: Optional[torch.Tensor]) -> torch.Tensor:
        """Cross-attention (B, T, S) of the last layer, mean over heads, for pictures; in eval mode."""
        causal, mask = self._causal(ids), None if visible is None else visible[:, None, None]
        x = self.embedding(ids) * self.scale + self.positions[: ids.shape[1]]
        modulation, weights = self._modulation(x), x
        for index, layer in enumerate(self.layers):
            norms = None if modulation is None else modulation[index]
            weights = layer.attention_weights(x, causal, memory, mask, norms)
            x = layer(x, causal, memory, mask, norms)
        return weights

    @torch.jit.export
    def start(self, memory: torch.Tensor, visible: Optional[torch.Tensor], beams: int) -> DecoderState:
        """State before the first token, for ``memory`` (B, S, dim) and as many hypotheses a study."""
        kept = [layer.cross_attention.keys_values(memory) for layer in self.layers]
        cross = torch.stack(kept)  # (layers, 2, B, heads, S, d)
        if visible is None:
            visible = torch.ones(memory.shape[0], memory.shape[1], dtype=torch.bool, device=memory.device)
        self_kv = memory.new_empty(
            [cross.shape[0], 2, memory.shape[0], beams, cross.shape[3], self.room, cross.shape[5]]
        )  # (layers, 2, B, K, heads, room, d)
        slots = memory.new_zeros([memory.shape[0], beams, 0, cross.shape[5]])
        if self.relational is not None:
            slots = self.relational.start(memory)[:, None].expand(-1, beams, -1, -1)  # (B, K, slots, dim)
        return DecoderState(self_kv, cross, visible, slots)

    @torch.jit.export
    def step(self, tokens: torch.Tensor, position: int, state: DecoderState) -> tuple[torch.Tensor, DecoderState]:
        """Log-probabilities (B, K, vocab_size) after ``tokens`` (B, K) at ``position``; the state goes on."""
        self_kv = state.self_kv
        if position == self_kv.shape[5]:
            self_kv = torch.cat(
                [self_kv, torch.empty_like(self_kv)], dim=5
            )  # doubled: the copies cost no more than the rest
        x = self.embedding(tokens) * self.scale + self.positions[position]
        slots, modulation = state.slots, torch.jit.annotate(Optional[torch.Tensor], None)
        if self.relational is not None:
            # of (B * K, 1, dim) and (B * K, slots, dim): (layers, 3, 2, B * K, 1, dim) and (B * K, slots, dim)
            modulation, flat = self.relational(x.flatten(0, 1)[:, None], slots.flatten(0, 1))
            modulation = modulation[:, :, :, :, 0].unflatten(3, [x.shape[0], x.shape[1]])  # (layers, 3, 2, B, K, dim)
            slots = flat.unflatten(0, [x.shape[0], x.shape[1]])  # (B, K, slots, dim)
        for index, layer in enumerate(self.layers):
            norms = None if modulation is None else modulation[index]
            x = layer.step(x, position, self_kv[index], state.cross_kv[index], state.visible, norms)
        return self.logit(self.norm(x)).float().log_softmax(dim=2), DecoderState(
            self_kv, state.cross_kv, state.visible, slots
        )

    @torch.jit.export
    def select(self, state: DecoderState, studies: torch.Tensor, beams: torch.Tensor, used: int) -> DecoderState:
        """The state of ``studies`` (b,) with hypotheses ``beams`` (b, K), of which ``used`` positions are filled."""
        slots = state.slots[studies[:, None], beams]
        if studies.shape[0] < state.self_kv.shape[2]:
            self_kv = state.self_kv[:, :, studies[:, None], beams]
            return DecoderState(self_kv, state.cross_kv[:, :, studies], state.visible[studies], slots)
        rows = (studies[:, None] * beams.shape[1] + beams).flatten()  # (b * K,)
        moved = (rows != torch.arange(rows.shape[0], device=rows.device)).nonzero()[:, 0]
        for layer in state.self_kv:  # one by one: the copies stay small enough to be kept by the allocator
            filled = layer.flatten(1, 2)[:, :, :, :used]  # (2, B * K, heads, used, d)
            filled.index_copy_(1, moved, filled.index_select(1, rows[moved]))
        return DecoderState(state.self_kv, state.cross_kv, state.visible, slots)


def sinusoids(length: int, dim: int) -> torch.Tensor:
    """Fixed positions (length, dim), sine and cosine alternating (Vaswani et al. 2017)."""
    position = torch.arange(length, dtype=torch.float32)[:, None]
    rate = torch.exp(torch.arange(0, dim, 2, dtype=torch.float32) * (-math.log(10000.0) / dim))
    return torch.stack([torch.sin(position * rate), torch.cos(position * rate)], dim=2).flatten(1)
