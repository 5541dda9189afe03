"""A small CLIP from scratch, loaded into the network, and scaled so that its features can be read."""

from __future__ import annotations

import copy
import logging
import os

import torch
from transformers import CLIPConfig, CLIPModel

from ..frozen_clip import FrozenClip

logger = logging.getLogger(__name__)


def load_clip(*, clip: FrozenClip, folder: str) -> None:
    """Load the weights that ``save_pretrained`` wrote to ``folder`` into ``clip``.

    Raises:
        FileNotFoundError: no CLIP in ``folder``.
        ValueError: another architecture.
    """
    if not os.path.isfile(os.path.join(folder, "config.json")):
        raise FileNotFoundError(f"clip_dir: no CLIP in {folder!r}; run pretrain_clip.json, or pass a folder with one")
    try:
        clip.load_state_dict(FrozenClip(weights=folder, taps=clip.taps).state_dict())
    except RuntimeError as error:
        raise ValueError(f"clip_dir: the CLIP in {folder!r} has other sizes than network_def#clip: {error}") from error


def small_clip(
    *,
    vocab_size: int,
    image_size: int,
    width: int = 256,
    layers: int = 6,
    text_width: int = 192,
    text_layers: int = 3,
    embed_dim: int = 256,
    max_length: int = 77,
) -> CLIPModel:
    """A CLIP with patch 16, from scratch: the published class with a smaller configuration, 7 M parameters."""
    text = {
        "vocab_size": vocab_size, "hidden_size": text_width, "intermediate_size": 4 * text_width,
        "num_hidden_layers": text_layers, "num_attention_heads": text_width // 48,
        "max_position_embeddings": max_length, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3,
    }  # fmt: skip
    vision = {
        "hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": layers,
        "num_attention_heads": width // 64, "image_size": image_size, "patch_size": 16,
    }  # fmt: skip
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=embed_dim))


@torch.no_grad()
def at_unit_scale(clip: CLIPModel, image: torch.Tensor, input_ids: torch.Tensor) -> CLIPModel:
    """A copy of ``clip`` that compares alike, but whose last image tokens and both embeddings have RMS 1 on a batch.

    Contrastive training leaves these scales open: embeddings are compared by their cosines, and each block normalises
    what it reads, so a factor on all that enters the image tower's sum changes no cosine. They matter to what reads
    the taps: left at 5 to 9, as training ends, they drown the condition, and the coarse branch never learns to read it.

    Args:
        image: (B, 3, H, W), standardised.
        input_ids: (B, L).
    """
    scaled: CLIPModel = copy.deepcopy(clip).eval()
    tower = scaled.vision_model
    seen = tower(image, interpolate_pos_encoding=True)
    written = [part for block in tower.encoder.layers for part in (block.self_attn.out_proj, block.mlp.fc2)]
    for part in (tower.pre_layrnorm, *written):
        part.weight.div_(_rms(seen.last_hidden_state))
        part.bias.div_(_rms(seen.last_hidden_state))
    scaled.visual_projection.weight.div_(_rms(scaled.visual_projection(seen.pooler_output)))
    scaled.text_projection.weight.div_(_rms(scaled.text_projection(scaled.text_model(input_ids).pooler_output)))
    return scaled


def _rms(values: torch.Tensor) -> torch.Tensor:
    return values.square().mean().sqrt()
