"""A step of contrastive training (Radford et al. 2021) and of its validation.

One difference: pairs of a batch that share a phrase are all counted as matches.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from transformers import CLIPModel

from common.engine.precision import autocast
from common.engine.steps import as_tensor, clip_and_step, emit, emit_training

logger = logging.getLogger(__name__)


def embeddings(clip: CLIPModel, batch: Mapping, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit vectors (B, E) of the images and of the phrases of a batch."""
    seen = clip.get_image_features(as_tensor(batch["image"]).to(device), interpolate_pos_encoding=True).pooler_output
    read = clip.get_text_features(batch["input_ids"].to(device)).pooler_output
    return F.normalize(seen.float(), dim=1), F.normalize(read.float(), dim=1)


def contrastive_loss(
    image: torch.Tensor, text: torch.Tensor, input_ids: torch.Tensor, scale: torch.Tensor
) -> torch.Tensor:
    """Symmetric InfoNCE of unit vectors (B, E); pairs with equal ``input_ids`` (B, L) share the target.

    ``scale``: logarithm of the inverse temperature, kept below ln 100.
    """
    logits = scale.clamp(max=4.6052).exp() * image @ text.t()
    equal = (input_ids[:, None] == input_ids[None]).all(2).float()
    target = equal / equal.sum(1, keepdim=True)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.t(), target)) / 2


def pretrain_step(engine: SupervisedTrainer, batch: dict, *, amp: bool | str) -> list[dict]:
    """One step of contrastive training."""
    device, clip = engine.state.device, engine.network.train()
    with autocast(device, amp):
        image, text = embeddings(clip, batch, device)  # type: ignore[arg-type]
    loss = contrastive_loss(image, text, batch["input_ids"].to(device), clip.logit_scale)  # type: ignore[arg-type]
    clip_and_step(engine, loss, max_norm=1.0)
    return emit_training(engine, {"loss": loss.detach()}, {"contrast": loss})


def embed_step(engine: SupervisedEvaluator, batch: dict, *, amp: bool | str) -> dict:
    """Embeddings of a validation batch."""
    device, clip = engine.state.device, engine.network.eval()
    with torch.no_grad(), autocast(device, amp):
        image, text = embeddings(clip, batch, device)  # type: ignore[arg-type]
    return emit(engine, {"image_embedding": image, "text_embedding": text, "input_ids": batch["input_ids"].to(device)})
