"""Conditions of the coarse branch: embeddings of phrases and of visual prompts, computed once, and their mixture."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch

from common.engine.steps import as_tensor
from common.text.cache import LRUCache

from .frozen_clip import FrozenClip


class TextConditions:
    """Conditions of phrases, each computed alone; those of the last ``most`` phrases are kept.

    In a batch, rounding would depend on the other phrases of the batch, and a resumed training would differ.
    """

    def __init__(self, clip: FrozenClip, *, most: int = 4096) -> None:
        self.clip = clip
        self.known: LRUCache[tuple[int, ...], torch.Tensor] = LRUCache(most)

    @torch.no_grad()
    def __call__(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Conditions (B, E) of ids (B, L)."""
        keys = [tuple(ids) for ids in input_ids.tolist()]
        rows = input_ids.split(1)
        return torch.stack(
            [self.known.get(key, partial(self._condition, row)) for key, row in zip(keys, rows, strict=True)]
        )

    def _condition(self, input_ids: torch.Tensor) -> torch.Tensor:
        return self.clip.condition(input_ids)[0].float()


class VisualConditions:
    """Conditions of visual prompts, all computed at the first use; every image is lit in one way only.

    Args:
        prompts: items with ``image`` (3, H, W), of :func:`clip_tnseg.data.visual_transforms`.
    """

    def __init__(self, clip: FrozenClip, prompts: Sequence[dict], *, batch_size: int = 16) -> None:
        self.clip, self.prompts, self.batch_size = clip, prompts, batch_size
        self.known: torch.Tensor | None = None

    def __call__(self, indices: torch.Tensor) -> torch.Tensor:
        """Conditions (B, E) of prompts ``indices`` (B,); -1 stands for none and gives zeros."""
        if self.known is None:
            self.known = self._embed(indices.device)
        return self.known[indices] * (indices >= 0)[:, None]

    def _embed(self, device: torch.device) -> torch.Tensor:
        results = []
        for start in range(0, len(self.prompts), self.batch_size):
            stop = min(start + self.batch_size, len(self.prompts))
            images = torch.stack([as_tensor(self.prompts[index]["image"]) for index in range(start, stop)])
            results.append(self.clip.image_embedding(images.to(device)).float())
        return torch.cat(results)


def mix_prompts(text: torch.Tensor, visual: torch.Tensor, has_visual: torch.Tensor) -> torch.Tensor:
    """``w * text + (1 - w) * visual`` (B, E), w from U(0, 1) for each image; w = 1 without a visual prompt (4.3)."""
    share = torch.where(has_visual, torch.rand_like(text[:, 0]), torch.ones_like(text[:, 0]))[:, None]
    return share * text + (1 - share) * visual
