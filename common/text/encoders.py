"""Text encoders behind one interface: token ids and sentences in, token and pooled features out.

Every encoder has ``width``, ``embed(input_ids)`` and ``forward(input_ids, attention_mask, sentence_ids, keep)``; each
sentence is encoded by itself, so no feature knows the other sentences. ``keep`` (B, L) in [0, 1] mixes each input
embedding with a learned mask embedding, ``keep * e + (1 - keep) * e_mask``, before any attention: what is masked out
reaches no other token. Encoders of transformers are traced where ``torch.jit.script`` meets them.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Optional

import torch
from torch import nn
from transformers import AutoConfig, AutoModel, CLIPTextModel, PreTrainedModel

BERTS, ROBERTAS = ("bert",), ("roberta", "xlm-roberta", "camembert")


class TextFeatures(NamedTuple):
    """Features of reports: ``tokens`` (B, L, D), ``pooled`` (B, D), ``mask`` (B, L) bool, true for tokens."""

    tokens: torch.Tensor
    pooled: torch.Tensor
    mask: torch.Tensor


def sentence_attention(attention_mask: torch.Tensor, sentence_ids: torch.Tensor, causal: bool = False) -> torch.Tensor:
    """Which token may attend to which, bool (B, 1, L, L): those of its sentence; padding attends to itself only."""
    same = sentence_ids[:, :, None] == sentence_ids[:, None, :]
    real = (attention_mask[:, :, None] * attention_mask[:, None, :]) > 0
    order = torch.arange(attention_mask.shape[1], device=attention_mask.device)
    allowed = same & real
    if causal:
        allowed = allowed & (order[None, None, :] <= order[None, :, None])
    return (allowed | (order[None, :, None] == order[None, None, :]))[:, None]


def sentence_positions(sentence_ids: torch.Tensor) -> torch.Tensor:
    """Place of each token in its sentence, int64 (B, L), from 0."""
    order = torch.arange(sentence_ids.shape[1], device=sentence_ids.device)
    same = sentence_ids[:, :, None] == sentence_ids[:, None, :]
    return (same & (order[None, None, :] < order[None, :, None])).sum(-1)


def last_of_sentence(attention_mask: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    """Which tokens end their sentence, bool (B, L); ``positions`` from :func:`sentence_positions`."""
    following = torch.cat([positions[:, 1:], torch.zeros_like(positions[:, :1])], dim=1)
    continues = torch.cat([attention_mask[:, 1:], torch.zeros_like(attention_mask[:, :1])], dim=1)
    return ~((following > 0) & (continues > 0))


def mean_of_tokens(tokens: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean of (B, L, D) over the tokens that ``mask`` (B, L) marks; zeros where there is none."""
    weight = mask.to(tokens.dtype)[:, :, None]
    return (tokens * weight).sum(1) / weight.sum(1).clamp(min=1.0)


class MaskedEmbedding(nn.Module):
    """Mix token embeddings (B, L, D) with one learned mask embedding where ``keep`` (B, L) is below 1."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.mask_embedding = nn.Parameter(torch.randn(width) * 0.02)

    def forward(self, embedded: torch.Tensor, keep: Optional[torch.Tensor]) -> torch.Tensor:
        """(B, L, D) to the same; ``keep`` None keeps all."""
        if keep is None:
            return embedded
        kept = keep.to(embedded.dtype)[:, :, None]
        return kept * embedded + (1 - kept) * self.mask_embedding.to(embedded.dtype)


class TransformerTextEncoder(nn.Module):
    """A small pre-norm Transformer trained from scratch.

    Args:
        vocab_size: rows of the embedding; at least the tokenizer's length.
        width: features of a token.
        max_positions: tokens of a sentence at most; later ones share the last position.
        dropout: 0 by default: on CPUs its random numbers took half of the encoder's time, and words are dropped anyway.
    """

    def __init__(
        self,
        *,
        vocab_size: int = 4096,
        width: int = 128,
        layers: int = 2,
        heads: int = 4,
        max_positions: int = 128,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.width, self.heads, self.max_positions = width, heads, max_positions
        self.words = nn.Embedding(vocab_size, width, padding_idx=0)
        self.positions = nn.Embedding(max_positions, width)
        nn.init.normal_(self.positions.weight, std=0.02)
        self.masking = MaskedEmbedding(width)
        self.blocks = nn.ModuleList(
            nn.TransformerEncoderLayer(width, heads, 4 * width, dropout, "gelu", batch_first=True, norm_first=True)
            for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)

    def embed(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Word embeddings (B, L, D) without positions."""
        return self.words(input_ids)

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        sentence_ids: torch.Tensor,
        keep: Optional[torch.Tensor] = None,
    ) -> TextFeatures:
        """Ids, mask and sentences (B, L), and which words are kept (B, L), to tokens (B, L, width) and their mean."""
        position = sentence_positions(sentence_ids).clamp(max=self.max_positions - 1)
        tokens = self.masking(self.embed(input_ids), keep) + self.positions(position)
        allowed = sentence_attention(attention_mask, sentence_ids)  # (B, 1, L, L)
        blocked = ~allowed.expand(-1, self.heads, -1, -1).flatten(0, 1)  # (B * heads, L, L)
        for block in self.blocks:
            tokens = block(tokens, src_mask=blocked)
        tokens = self.norm(tokens)
        mask = attention_mask > 0
        return TextFeatures(tokens, mean_of_tokens(tokens, mask), mask)


class PretrainedTextEncoder(nn.Module):
    """An encoder of transformers; made by :func:`bert_text_encoder` and :func:`clip_text_encoder`.

    Args:
        layers: the encoder as tensors in, tensor out.
        blocks: the Transformer layers inside.
        causal: a token attends to itself and earlier ones, and each sentence's last token stands for the sentence.
        trainable_layers: None trains all; n trains the last n layers; 0 freezes all, which then stay in eval mode.
    """

    def __init__(
        self, layers: _BertLayers | _ClipLayers, blocks: nn.ModuleList, *, causal: bool, trainable_layers: Optional[int]
    ) -> None:
        super().__init__()
        embeddings = layers.words.weight.detach()
        self.width, self.causal = embeddings.shape[1], causal
        self.masking = MaskedEmbedding(self.width)
        self.masking.mask_embedding.data.copy_(embeddings.mean(0))
        self.encoder = layers
        self.frozen = _freeze(layers, blocks, trainable_layers)

    def embed(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Word embeddings (B, L, D) without positions."""
        return self.encoder.words(input_ids)

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        sentence_ids: torch.Tensor,
        keep: Optional[torch.Tensor] = None,
    ) -> TextFeatures:
        """As :meth:`TransformerTextEncoder.forward`."""
        embedded = self.masking(self.embed(input_ids), keep)
        allowed = sentence_attention(attention_mask, sentence_ids, causal=self.causal)
        position = sentence_positions(sentence_ids)
        tokens = self.encoder(embedded, allowed, position)
        mask = attention_mask > 0
        pooled = mask & last_of_sentence(attention_mask, position) if self.causal else mask
        return TextFeatures(tokens, mean_of_tokens(tokens, pooled), mask)

    def train(self, mode: bool = True) -> PretrainedTextEncoder:
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self


def bert_text_encoder(
    *, weights: str | PreTrainedModel, trainable_layers: Optional[int] = None
) -> PretrainedTextEncoder:
    """An encoder of transformers of BERT's or RoBERTa's form: BERT, MiniLM, PubMedBERT; RoBERTa, XLM-R, CamemBERT.

    Args:
        weights: a local folder or hub name, loaded by ``from_pretrained``; or a model made by the caller.
        trainable_layers: of :class:`PretrainedTextEncoder`.

    Raises:
        ValueError: a model of another form, whose features would be wrong.
    """
    config = weights.config if isinstance(weights, PreTrainedModel) else AutoConfig.from_pretrained(weights)
    kind = config.model_type
    if kind not in (*BERTS, *ROBERTAS):
        raise ValueError(f"weights: {kind!r} is the model's type; the types that fit are {', '.join(BERTS + ROBERTAS)}")
    bert: Any = weights
    if isinstance(weights, str):
        bert = AutoModel.from_pretrained(weights, add_pooling_layer=False)
    return PretrainedTextEncoder(_BertLayers(bert), bert.encoder.layer, causal=False, trainable_layers=trainable_layers)


def clip_text_encoder(*, weights: str | CLIPTextModel, trainable_layers: Optional[int] = None) -> PretrainedTextEncoder:
    """CLIP's text tower; causal within each sentence. ``pooled`` is the mean of the sentences' last tokens.

    Args:
        weights: a local folder or hub name, loaded by ``from_pretrained``; or a ``CLIPTextModel`` made by the caller.
        trainable_layers: of :class:`PretrainedTextEncoder`.
    """
    clip = weights if isinstance(weights, CLIPTextModel) else CLIPTextModel.from_pretrained(weights)
    layers = _ClipLayers(clip)
    return PretrainedTextEncoder(layers, layers.clip.encoder.layers, causal=True, trainable_layers=trainable_layers)


class _BertLayers(nn.Module):
    """BertModel as tensors in, tensor out: embeddings, allowed attention (B, 1, L, L), positions (B, L).

    RoBERTa numbers positions from behind its padding id, which has a position, too.
    """

    def __init__(self, bert: PreTrainedModel) -> None:
        super().__init__()
        self.bert = bert
        self.first = int(bert.config.pad_token_id) + 1 if bert.config.model_type in ROBERTAS else 0
        self.words: nn.Embedding = bert.get_input_embeddings()  # type: ignore[assignment]

    def forward(self, embedded: torch.Tensor, allowed: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        return self.bert(
            inputs_embeds=embedded, attention_mask=allowed, position_ids=positions + self.first
        ).last_hidden_state

    def __prepare_scriptable__(self) -> torch.jit.ScriptModule:
        return _trace(self, self.words)


class _ClipLayers(nn.Module):
    """CLIP's text tower as tensors in, tensor out; arguments as :class:`_BertLayers`."""

    def __init__(self, clip: CLIPTextModel) -> None:
        super().__init__()
        self.clip = getattr(clip, "text_model", clip)  # the tower itself, which early releases of transformers 5 wrap
        self.words: nn.Embedding = clip.get_input_embeddings()  # type: ignore[assignment]

    def forward(self, embedded: torch.Tensor, allowed: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        hidden = self.clip.embeddings(inputs_embeds=embedded, position_ids=positions)
        hidden = self.clip.encoder(inputs_embeds=hidden, attention_mask=allowed).last_hidden_state
        return self.clip.final_layer_norm(hidden)

    def __prepare_scriptable__(self) -> torch.jit.ScriptModule:
        return _trace(self, self.words)


class _TracedLayers(nn.Module):
    """The scripted stand-in of the two modules above: traced layers, and the word embeddings that ``embed`` reads."""

    def __init__(self, layers: torch.jit.ScriptModule, words: nn.Embedding) -> None:
        super().__init__()
        self.layers, self.words = layers, words

    def forward(self, embedded: torch.Tensor, allowed: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        return self.layers(embedded, allowed, positions)


def _trace(layers: nn.Module, words: nn.Embedding) -> torch.jit.ScriptModule:
    """Trace ``layers``: torch.jit.script cannot read transformers' sources, it scripts what this returns instead."""
    positions = torch.arange(6)[None].expand(2, -1)
    allowed = torch.ones(2, 1, 6, 6, dtype=torch.bool)
    with torch.no_grad():
        traced = torch.jit.trace(layers.eval(), (words(positions), allowed, positions), check_trace=False)
    return torch.jit.script(_TracedLayers(traced, words))


def _freeze(model: nn.Module, layers: nn.ModuleList, trainable_layers: Optional[int]) -> bool:
    """Freeze all of ``model`` but its last ``trainable_layers`` layers; return whether nothing is left to train."""
    if trainable_layers is None:
        return False
    if not 0 <= trainable_layers <= len(layers):
        raise ValueError(f"trainable_layers: {trainable_layers} is not in 0..{len(layers)}, the encoder's layers")
    model.requires_grad_(False)
    for layer in list(layers)[len(layers) - trainable_layers :]:
        layer.requires_grad_(True)
    return trainable_layers == 0
