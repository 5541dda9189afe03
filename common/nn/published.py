"""Entries of other checkpoints under our names: of R2Gen's family (R2Gen, SGF, D2R-Net), and of our version 0.1."""

from __future__ import annotations

import re
from collections.abc import Mapping

import torch
from torch import nn

TRANSFORMER = (
    (r"^encoder_decoder\.att_embed\.0\.", "embed.0."),
    (r"^encoder_decoder\.model\.encoder\.", "encoder."),
    (r"^encoder_decoder\.model\.decoder\.", "report.decoder."),
    (r"^encoder_decoder\.model\.rm\.attn\.", "report.decoder.relational.memory.attention."),
    (r"^encoder_decoder\.model\.rm\.mlp\.", "report.decoder.relational.memory.mlp."),
    (r"^encoder_decoder\.model\.rm\.W\.", "report.decoder.relational.memory.of_word."),
    (r"^encoder_decoder\.model\.rm\.U\.", "report.decoder.relational.memory.of_slots."),
    (r"^encoder_decoder\.model\.tgt_embed\.0\.lut\.", "report.decoder.embedding."),
    (r"^encoder_decoder\.logit\.", "report.decoder.logit."),
    (r"^(encoder\..*)\.self_attn\.", r"\1.attention."),
    (r"^(report\..*)\.self_attn\.", r"\1.self_attention."),
    (r"\.src_attn\.", ".cross_attention."),
    (r"\.linears\.0\.", ".query."),
    (r"\.linears\.1\.", ".key."),
    (r"\.linears\.2\.", ".value."),
    (r"\.linears\.3\.", ".out."),
    (r"\.feed_forward\.w_1\.", ".feed_forward.inner."),
    (r"\.feed_forward\.w_2\.", ".feed_forward.outer."),
    (r"\.sublayer\.(\d)\.norm\.", r".norms.\1."),
)
COUNTER = "num_batches_tracked"  # of a batch norm, which old files lack, and torch fills in
MODULATION = re.compile(r"^report\.decoder\.layers\.(\d+)\.norms\.(\d)\.mlp_(gamma|beta)\.([02])\.(weight|bias)$")


def renamed(state: dict[str, torch.Tensor], rules: tuple) -> dict[str, torch.Tensor]:
    """``state`` under our names: ``rules`` (pattern, replacement) and then :data:`TRANSFORMER`.

    The fixed positions are left out: they are computed. The small networks of the conditional norms are stacked.
    """
    names = {name: rename(name, (*rules, *TRANSFORMER)) for name in state if not name.endswith("tgt_embed.1.pe")}
    stacks: dict[str, list] = {}
    results = {}
    for name, value in state.items():
        ours = names.get(name)
        match = ours and MODULATION.match(ours)
        if match:
            layer, position, kind, part, of = match.groups()
            key = f"report.decoder.relational.modulation.{'inner.' if part == '0' else 'outer_'}{of}"
            stacks.setdefault(key, []).append(((int(layer), int(position), kind != "gamma"), value))
        elif ours:
            results[ours] = value
    for key, parts in stacks.items():
        values = [value for _, value in sorted(parts, key=lambda part: part[0])]
        joined = torch.cat(values) if "inner" in key else torch.stack(values)  # (count * dim, ...) or (count, out, ...)
        if "outer" in key:  # kept as (count, in, out) and (count, 1, out)
            joined = joined.transpose(1, 2).contiguous() if joined.dim() == 3 else joined[:, None]
        results[key] = joined
    return results


def rename(name: str, rules: tuple) -> str:
    """Our name of a published entry."""
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return name


def load_into(
    network: nn.Module, state: dict[str, torch.Tensor], *, prefixes: tuple[str, ...] = ("",), name: str = "this network"
) -> None:
    """Load entries that have our names, into those of ``network`` that begin with one of ``prefixes``.

    Args:
        name: what the weights are for, in the message.

    Raises:
        ValueError: entries are missing, left over, or of another shape.
    """
    current = {name for name in network.state_dict() if name.startswith(prefixes)}
    missing = sorted(name for name in current - state.keys() if not name.endswith(COUNTER))
    extra = sorted(state.keys() - current)
    if missing or extra:
        raise ValueError(
            f"weights: they do not fit {name}: {len(missing)} entries missing {missing[:3]}, {len(extra)} not known "
            f"{extra[:3]}"
        )
    try:
        network.load_state_dict(state, strict=False)
    except RuntimeError as error:
        faults = [line.strip() for line in str(error).splitlines()[1:] if line.strip()]
        raise ValueError(f"weights: they do not fit {name}: {faults[0][:200]} ({len(faults)} such faults)") from error


def accept_former_names(module: nn.Module, names: Mapping[str, str]) -> None:
    """Let ``module`` load files of version 0.1: entries that begin with a key of ``names`` begin with its value now."""

    def under_present_names(_: nn.Module, state: dict, prefix: str, *__: object) -> None:
        for former, present in names.items():
            for name in [name for name in state if name.startswith(prefix + former)]:
                state[prefix + present + name.removeprefix(prefix + former)] = state.pop(name)

    module.register_load_state_dict_pre_hook(under_present_names)
