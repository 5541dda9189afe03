"""CLIP as a frozen source of features: taps of the image tower, conditions from phrases, embeddings of images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Optional

import torch
from torch import nn
from transformers import CLIPModel


class FrozenClip(nn.Module):
    """One CLIP of transformers, never trained, always in eval mode.

    Args:
        weights: a local folder or hub name, loaded by ``from_pretrained``; or a ``CLIPModel`` made by the caller.
        taps: blocks of the image tower, counted from 0, whose outputs the coarse branch reads.

    Raises:
        ValueError: a tap beyond the tower's blocks, or taps out of order.
    """

    def __init__(self, *, weights: str | CLIPModel, taps: Sequence[int] = (3, 7, 9)) -> None:
        super().__init__()
        clip = weights if isinstance(weights, CLIPModel) else CLIPModel.from_pretrained(weights)
        vision = clip.config.vision_config
        if list(taps) != sorted(set(taps)) or taps[-1] >= vision.num_hidden_layers:
            raise ValueError(f"taps: {list(taps)} must rise and stay below {vision.num_hidden_layers}, CLIP's blocks")
        self.taps = list(taps)
        self.width, self.patch = vision.hidden_size, vision.patch_size
        self.embed_dim = int(clip.visual_projection.out_features)
        words = clip.config.text_config
        self.max_length, self.end_id = int(words.max_position_embeddings), int(words.eos_token_id)
        self.image = _ImageTower(clip, self.taps)
        self.text = _TextTower(clip)
        self.requires_grad_(False)

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        """Taps (B, 1 + patches, width) of ``image`` (B, 3, H, W), standardised, H and W multiples of the patch."""
        return [tap.detach() for tap in self.image(image)]

    def condition(self, input_ids: torch.Tensor, attention_mask: Optional[torch.Tensor] = None) -> torch.Tensor:
        """Embedding (B, embed_dim) of phrases, not normalised; padding after the end token changes nothing."""
        return self.text(input_ids).detach()

    @torch.jit.unused
    @torch.no_grad()
    def image_embedding(self, image: torch.Tensor) -> torch.Tensor:
        """Embedding (B, embed_dim) of images, in the space of :meth:`condition`: the visual prompts of training."""
        return self.image.embed(image)

    def train(self, mode: bool = True) -> FrozenClip:
        return super().train(False)


class _ImageTower(nn.Module):
    """The image tower as tensor in, taps out; the blocks after the last tap run for embeddings alone."""

    def __init__(self, clip: CLIPModel, taps: list[int]) -> None:
        super().__init__()
        self.tower, self.projection, self.taps = clip.vision_model, clip.visual_projection, taps

    def forward(self, image: torch.Tensor) -> list[torch.Tensor]:
        hidden = self.tower.pre_layrnorm(self.tower.embeddings(image, interpolate_pos_encoding=True))
        taps = []
        for index, block in enumerate(self.tower.encoder.layers[: self.taps[-1] + 1]):
            hidden = block(hidden, attention_mask=None)
            if index in self.taps:
                taps.append(hidden)
        return taps

    def embed(self, image: torch.Tensor) -> torch.Tensor:
        return self.projection(self.tower(image, interpolate_pos_encoding=True).pooler_output)

    def __prepare_scriptable__(self) -> torch.jit.ScriptModule:
        """Trace: torch.jit.script cannot read transformers' sources, it scripts what this returns instead."""
        size = 3 * self.tower.config.patch_size
        with torch.no_grad():
            return torch.jit.trace(self.eval(), torch.rand(2, 3, size, 2 * size), check_trace=False)


class _TextTower(nn.Module):
    """The text tower as ids in, embeddings out: that of the first end token."""

    def __init__(self, clip: CLIPModel) -> None:
        super().__init__()
        self.tower, self.projection = clip.text_model, clip.text_projection

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.projection(self.tower(input_ids).pooler_output)

    def __prepare_scriptable__(self) -> torch.jit.ScriptModule:
        """Trace, as the image tower."""
        ids = torch.full((2, 6), self.tower.config.eos_token_id)
        with torch.no_grad():
            return torch.jit.trace(self.eval(), ids, check_trace=False)
