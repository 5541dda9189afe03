"""Weights under the names of the published CLIP-TNseg and of OpenAI's CLIP, loaded into our network."""

from __future__ import annotations

import torch

from common.nn.published import load_into, rename

from .network import CLIPTNseg

UNUSED = ("CGB.reduce.", "CGB.clip_model.", "CGB.model.")  # never used, and CLIP, which comes from its own file
RULES = (
    (r"^CGB\.film_(mul|add)\.", r"coarse.film.\1."),
    (r"^CGB\.reduces\.", "coarse.reduce."),
    (r"^CGB\.blocks\.", "coarse.blocks."),
    (r"^CGB\.trans_conv\.", "coarse.upsample."),
    (r"^FGB\.enc_blocks\.(\d+)\.0\.", r"fine.encoder.\1."),
    (r"^FGB\.enc_blocks\.", "fine.encoder."),
    (r"^FGB\.middle_block\.", "fine.middle."),
    (r"^FGB\.dec_blocks\.(\d+)\.1\.1\.", r"fine.decoder.\1.2."),
    (r"^FGB\.dec_blocks\.", "fine.decoder."),
    (r"^PH\.", "head."),
    (r"\.in_layers\.0\.", ".norm1."),
    (r"\.in_layers\.2\.", ".conv1."),
    (r"\.out_layers\.0\.", ".norm2."),
    (r"\.out_layers\.2\.", ".conv2."),
)
CLIP_RULES = (
    (r"^visual\.class_embedding", "image.tower.embeddings.class_embedding"),
    (r"^visual\.positional_embedding", "image.tower.embeddings.position_embedding.weight"),
    (r"^visual\.conv1\.", "image.tower.embeddings.patch_embedding."),
    (r"^visual\.ln_pre\.", "image.tower.pre_layrnorm."),
    (r"^visual\.ln_post\.", "image.tower.post_layernorm."),
    (r"^visual\.proj$", "image.projection.weight"),
    (r"^visual\.transformer\.resblocks\.", "image.tower.encoder.layers."),
    (r"^transformer\.resblocks\.", "text.tower.encoder.layers."),
    (r"^token_embedding\.", "text.tower.embeddings.token_embedding."),
    (r"^positional_embedding", "text.tower.embeddings.position_embedding.weight"),
    (r"^ln_final\.", "text.tower.final_layer_norm."),
    (r"^text_projection$", "text.projection.weight"),
    (r"\.attn\.out_proj\.", ".self_attn.out_proj."),
    (r"\.ln_([12])\.", r".layer_norm\1."),
    (r"\.mlp\.c_fc\.", ".mlp.fc1."),
    (r"\.mlp\.c_proj\.", ".mlp.fc2."),
)


def load_published(network: CLIPTNseg, state: dict[str, torch.Tensor]) -> None:
    """Load the trained part of a published file; outer copies (names without ``CGB.``, ``FGB.``, ``PH.``) are skipped.

    Raises:
        ValueError: entries are missing, left over, or of another shape.
    """
    used = {name: value for name, value in state.items() if name.startswith(("CGB.", "FGB.", "PH."))}
    renamed = {rename(name, RULES): value for name, value in used.items() if not name.startswith(UNUSED)}
    load_into(network, renamed, prefixes=("coarse.", "fine.", "head."))


def load_openai_clip(network: CLIPTNseg, state: dict[str, torch.Tensor]) -> None:
    """Load OpenAI's CLIP ViT under its own names; the logit scale is not used.

    Raises:
        ValueError: entries are missing, left over, or of another shape.
    """
    renamed: dict[str, torch.Tensor] = {}
    for name, value in state.items():
        if name in ("logit_scale", "input_resolution", "context_length", "vocab_size"):
            continue
        ours = f"clip.{rename(name, CLIP_RULES)}"
        if name in ("visual.proj", "text_projection"):
            renamed[ours] = value.t()
        elif ".attn.in_proj_" in ours:
            for part, piece in zip("qkv", value.chunk(3), strict=True):
                renamed[ours.replace(".attn.in_proj_", f".self_attn.{part}_proj.")] = piece
        else:
            renamed[ours] = value
    load_into(network, renamed, prefixes=("clip.",))
