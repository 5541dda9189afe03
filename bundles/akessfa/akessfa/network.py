"""AKE-SSFA: a U-Net whose pixels read the clinical report, and a generator that names the words about this image.

Zhang et al., "A Multi-modal Approach with Report Guidance for Thyroid Nodule Segmentation", PRCV 2023 (AKE, SSFA). The
paper's abstract fixes the two ideas; every size and formula here is our completion, tried on synthetic data.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Optional

import torch
import torch.nn.functional as F
from torch import nn

from common.nn.attention import matmul_in_float32
from common.nn.backbones import image_encoder
from common.nn.fusion import PixelWordAttention

from .decoder import Decoder
from .generator import KeywordGenerator, keyword_probabilities


class SegmenterOutput(NamedTuple):
    """``logits`` (B, V, H, W) of each version of the report; ``affinity`` (B, B) of regions to reports, or empty."""

    logits: torch.Tensor
    affinity: torch.Tensor


class Evidence(NamedTuple):
    """What the segmenter tells the keyword generator, without gradient; no ground truth is in it."""

    logits: torch.Tensor  # (B, 1, H, W), with the full report
    words: torch.Tensor  # (B, L, D), word features
    pixels: torch.Tensor  # (B, N, C), image features at stride 16
    mass: torch.Tensor  # (B, L), attention of the predicted foreground on each word
    attention: list[torch.Tensor]  # three of (B, h, w, L): word attention of each pixel at strides 8, 16, 32


class Explanation(NamedTuple):
    """What inference returns."""

    logits: torch.Tensor  # (B, 1, H, W)
    keywords: torch.Tensor  # (B, L) in [0, 1]
    attention: list[torch.Tensor]  # as in Evidence
    fit: torch.Tensor  # (B,), affinity of the predicted nodule to its report: higher where they fit


class SSFA(nn.Module):
    """Semantic-spatial feature aggregation: brings the words' meaning to every pixel of one feature map.

    Pixels attend to words; a spatial gate lets the semantic map through, a residual adds it. Linear in the pixels.
    """

    def __init__(self, *, channels: int, text_dim: int) -> None:
        super().__init__()
        dim = channels // 4
        self.attend = PixelWordAttention(channels=channels, text_dim=text_dim, dim=dim)
        self.gate = nn.Conv2d(3, 1, 7, padding=3)
        self.out = nn.Conv2d(dim, channels, 1)
        self.gamma = nn.Parameter(torch.tensor(0.5))

    def forward(
        self, features: torch.Tensor, words: torch.Tensor, keep: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Fuse ``features`` (B, C, H, W) with ``words`` (B, L, D); return them with the attention (B, H*W, 1+L)."""
        semantic, attention = self.attend(features, words, keep)
        statistics = [features.mean(1, keepdim=True), features.amax(1, keepdim=True), semantic.mean(1, keepdim=True)]
        gate = torch.sigmoid(self.gate(torch.cat(statistics, dim=1)))  # (B, 1, H, W)
        return features + self.gamma * self.out(semantic * gate), attention


class Segmenter(nn.Module):
    """Segments a nodule under any number of versions of its report; the image is encoded once.

    Args:
        text_encoder: an encoder of :mod:`common.text.encoders`.
        backbone: image encoder with the interface of :mod:`common.nn.backbones`, of an image and its two coordinates.
        depth, weights, width: of :class:`common.nn.backbones.ResNetFeatures`, there without ``backbone``.
        decoder_width: channels of the decoder at stride 4.
        special_ids: token ids that are no words (padding, begin, end).
    """

    def __init__(
        self,
        *,
        text_encoder: nn.Module,
        backbone: Optional[nn.Module] = None,
        depth: Optional[int] = None,
        weights: Optional[str] = None,
        width: Optional[int] = None,
        decoder_width: int = 32,
        special_ids: tuple[int, ...] = (0, 2, 3),
    ) -> None:
        super().__init__()
        self.image_encoder = image_encoder(
            backbone, default_depth=34, depth=depth, width=width, weights=weights, in_channels=3
        )
        self.text_encoder = text_encoder
        channels = self.image_encoder.channels
        self.ssfa = nn.ModuleList(SSFA(channels=c, text_dim=text_encoder.width) for c in channels[1:])
        self.decoder = Decoder(channels, width=decoder_width)
        self.register_buffer("special_ids", torch.tensor(list(special_ids)), persistent=False)

    def forward(
        self,
        image: torch.Tensor,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        sentence_ids: torch.Tensor,
        keep: torch.Tensor,
        region: Optional[torch.Tensor] = None,
    ) -> SegmenterOutput:
        """Segment.

        Args:
            image: float (B, 1, H, W) in [0, 1]; H and W are multiples of 32.
            input_ids, attention_mask, sentence_ids: int64 (B, L).
            keep: (B, V, L) in [0, 1], which words each of V versions of the report keeps.
            region: (B, 1, H, W) in [0, 1], the true nodule in training: asks for the affinity to version 0.
        """
        features = self.encode_image(image)
        logits, words, kept = self.segment(features, input_ids, attention_mask, sentence_ids, keep)
        affinity = torch.zeros(0, device=image.device)
        if region is not None:
            affinity = self.affinity(features, words[:, 0], kept[:, 0], sentence_ids, region)
        return SegmenterOutput(logits, affinity)

    def segment(
        self,
        features: list[torch.Tensor],
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        sentence_ids: torch.Tensor,
        keep: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Logits (B, V, H, W), words (B, V, L, D), kept words (B, V, L), from the features of :meth:`encode_image`."""
        versions = keep.shape[1]
        # features (B * V, C, h, w), ids (B * V, L)
        wide = [f.repeat_interleave(versions, dim=0) for f in features] if versions > 1 else features
        ids = [t.repeat_interleave(versions, dim=0) for t in (input_ids, attention_mask, sentence_ids)]
        kept = keep.flatten(0, 1) * self.is_word(ids[0], ids[1])  # (B * V, L)
        words = self.text_encoder(ids[0], ids[1], ids[2], kept).tokens
        logits = self.decode(wide, words, kept)[0][:, 0]  # (B * V, H, W)
        split = [-1, versions]
        return logits.unflatten(0, split), words.unflatten(0, split), kept.unflatten(0, split)  # each (B, V, ...)

    def affinity(
        self,
        features: list[torch.Tensor],
        words: torch.Tensor,
        keep: torch.Tensor,
        sentence_ids: torch.Tensor,
        region: torch.Tensor,
    ) -> torch.Tensor:
        """How well each image's region finds words in each report of the batch, (B, B): mean over stages."""
        total = torch.zeros(region.shape[0], region.shape[0], device=region.device)
        for stage, ssfa in enumerate(self.ssfa):
            total = total + ssfa.attend.affinity(features[stage + 1], words, keep, sentence_ids, region)
        return total / len(self.ssfa)

    def encode_image(self, image: torch.Tensor) -> list[torch.Tensor]:
        """``image`` (B, 1, H, W), with its coordinates, to maps (B, C, h, w) at strides 4, 8, 16, 32.

        Reports speak of positions, which a map alone does not tell.
        """
        rows = from_minus_one_to_one(image.shape[2], image)
        columns = from_minus_one_to_one(image.shape[3], image)
        grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))  # (2, H, W)
        grid = grid[None].expand(image.shape[0], -1, -1, -1)  # (B, 2, H, W)
        return self.image_encoder(torch.cat([image, grid], dim=1))

    def decode(
        self, features: list[torch.Tensor], words: torch.Tensor, keep: torch.Tensor
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        """Fuse words into features and decode: logits (B, 1, H, W), attention (B, h*w, 1+L) of the three stages."""
        fused, attention = [features[0]], []
        for stage, ssfa in enumerate(self.ssfa):
            feature, weights = ssfa(features[stage + 1], words, keep)
            fused.append(feature)
            attention.append(weights)
        return self.decoder(fused), attention

    def is_word(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """1.0 for words, 0.0 for padding and special tokens, (B, L)."""
        special = (input_ids[:, :, None] == self.special_ids[None, None, :]).any(-1)
        return ((attention_mask > 0) & ~special).float()

    def examine(
        self,
        features: list[torch.Tensor],
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor,
        sentence_ids: torch.Tensor,
    ) -> Evidence:
        """Segment with the full report, and keep what explains it.

        Args:
            features: of :meth:`encode_image`.
            input_ids, attention_mask, sentence_ids: int64 (B, L).
        """
        keep = self.is_word(input_ids, attention_mask)
        words = self.text_encoder(input_ids, attention_mask, sentence_ids, keep).tokens
        logits, weights = self.decode(features, words, keep)
        foreground = torch.sigmoid(logits.float())
        mass = torch.zeros_like(keep)
        attention = []
        for stage, weight in enumerate(weights):
            height, width = features[stage + 1].shape[2], features[stage + 1].shape[3]
            seen = F.adaptive_avg_pool2d(foreground, [height, width]).flatten(1)  # (B, h * w)
            looked = matmul_in_float32(seen[:, None], weight[:, :, 1:])[:, 0]  # (B, L)
            mass = mass + looked / seen.sum(1, keepdim=True).clamp(min=1e-6) / 3
            attention.append(weight[:, :, 1:].reshape(weight.shape[0], height, width, -1))  # (B, h, w, L)
        pixels = features[2].flatten(2).transpose(1, 2)  # (B, N, C)
        return Evidence(logits.float(), words, pixels, mass, attention)

    def fit(
        self, features: list[torch.Tensor], evidence: Evidence, is_word: torch.Tensor, sentence_ids: torch.Tensor
    ) -> torch.Tensor:
        """Affinity (B,) of each predicted nodule to its own report, of what :meth:`examine` found."""
        foreground = torch.sigmoid(evidence.logits)
        return self.affinity(features, evidence.words, is_word, sentence_ids, foreground).diagonal()


def from_minus_one_to_one(count: int, like: torch.Tensor) -> torch.Tensor:
    """``count`` even steps from -1 to 1; exporters keep ``count`` free, as they do not for ``linspace``."""
    return torch.arange(count, device=like.device, dtype=like.dtype) * (2.0 / (count - 1)) - 1.0


class AKESSFA(nn.Module):
    """Segmenter and keyword generator together: what is saved, served and exported.

    Args:
        heads: of the generator's attention.
        mass_weight: starting weight of the segmenter's attention in the generator; 0 leaves it out for good.
        temperature: of the keyword probabilities, ``sigmoid(logit / temperature)``.
    """

    def __init__(
        self, *, segmenter: Segmenter, heads: int = 4, mass_weight: float = 0.3, temperature: float = 1.0
    ) -> None:
        super().__init__()
        self.segmenter = segmenter
        self.generator = KeywordGenerator(
            text_dim=segmenter.text_encoder.width,
            pixel_dim=segmenter.image_encoder.channels[2],
            heads=heads,
            mass_weight=mass_weight,
        )
        self.temperature = temperature

    @torch.jit.unused
    def image_features(self) -> tuple[nn.Module, Callable[[torch.Tensor], object]]:
        """As :mod:`common.engine.familiarity` has it."""
        return self.segmenter.image_encoder, self.segmenter.encode_image

    def forward(
        self,
        image: torch.Tensor,
        input_ids: Optional[torch.Tensor] = None,
        attention_mask: Optional[torch.Tensor] = None,
        sentence_ids: Optional[torch.Tensor] = None,
    ) -> torch.Tensor:
        """Logits (B, 1, H, W) of the nodule with the full report; without ids, of the image alone.

        Args:
            image: float (B, 1, H, W) in [0, 1]; H and W are multiples of 32.
            input_ids, attention_mask, sentence_ids: int64 (B, L); without sentence ids the report is one sentence.
        """
        if input_ids is None:
            input_ids = torch.zeros(image.shape[0], 1, dtype=torch.int64, device=image.device)
        mask = attention_mask if attention_mask is not None else (input_ids > 0).long()
        sentences = sentence_ids if sentence_ids is not None else torch.zeros_like(input_ids)
        keep = torch.ones_like(input_ids)[:, None].float()
        return self.segmenter(image, input_ids, mask, sentences, keep).logits

    @torch.jit.export
    def explain(
        self, image: torch.Tensor, input_ids: torch.Tensor, attention_mask: torch.Tensor, sentence_ids: torch.Tensor
    ) -> Explanation:
        """Segment ``image`` (B, 1, H, W) with the full report, ids (B, L), and say which words are about it."""
        features = self.segmenter.encode_image(image)
        evidence = self.segmenter.examine(features, input_ids, attention_mask, sentence_ids)
        is_word = self.segmenter.is_word(input_ids, attention_mask)
        scores = self.generator(evidence.words, evidence.pixels, evidence.mass, is_word, sentence_ids)
        keywords = keyword_probabilities(scores / self.temperature, is_word)
        fit = self.segmenter.fit(features, evidence, is_word, sentence_ids)
        return Explanation(evidence.logits, keywords, evidence.attention, fit)
