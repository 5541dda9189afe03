"""Weights under the names of the published SGF, loaded into our network."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch

from common.report_tokenizer import ReportTokenizer

from .network import SGF

RESNET = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}
RULES = (
    (r"^visual_extractor\.cov1x1\.", "visual.reduce."),
    (r"^visual_extractor\.model\.0\.", "visual.features.stem.0."),
    (r"^visual_extractor\.model\.1\.", "visual.features.stem.1."),
    (r"^visual_extractor\.model\.([4-7])\.", lambda match: f"visual.features.{RESNET[match[1]]}."),
    (r"^classfication_layers\.logit\.", "cluster_head.1."),
    (r"^encoder_decoder\.att_embed\.0\.", "embed.0."),
    (r"^encoder_decoder\.model\.encoder\.", "encoder."),
    (r"^encoder_decoder\.model\.decoder\.", "report.decoder."),
    (r"^encoder_decoder\.model\.tgt_embed\.0\.lut\.", "report.decoder.embedding."),
    (r"^encoder_decoder\.logit\.", "report.decoder.logit."),
    (r"^(encoder\..*)\.self_attn\.", r"\1.attention."),
    (r"^(report\..*)\.self_attn\.", r"\1.own."),
    (r"\.src_attn\.", ".cross."),
    (r"\.linears\.0\.", ".query."),
    (r"\.linears\.1\.", ".key."),
    (r"\.linears\.2\.", ".value."),
    (r"\.linears\.3\.", ".out."),
    (r"\.feed_forward\.w_1\.", ".feed_forward.inner."),
    (r"\.feed_forward\.w_2\.", ".feed_forward.outer."),
    (r"\.sublayer\.(\d)\.norm\.", r".norms.\1."),
)
OF_WORDS = (
    "encoder_decoder.model.tgt_embed.0.lut.weight",
    "encoder_decoder.logit.weight",
    "encoder_decoder.logit.bias",
)


def load_published(network: SGF, state: dict[str, torch.Tensor]) -> None:
    """Load a published file's ``state_dict``; ``network`` must have 0 as begin, end and padding id, or see
    :func:`with_own_ids`.

    The fixed positions are skipped: they are computed.

    Raises:
        ValueError: entries are missing, left over, or of another shape.
    """
    renamed = {rename(name): value for name, value in state.items() if not name.endswith("tgt_embed.1.pe")}
    own = network.state_dict().keys()
    missing, extra = sorted(own - renamed.keys()), sorted(renamed.keys() - own)
    if missing or extra:
        raise ValueError(f"weights: {len(missing)} entries missing {missing[:3]}, {len(extra)} not known {extra[:3]}")
    try:
        network.load_state_dict(renamed)
    except RuntimeError as error:
        raise ValueError(f"weights: they do not fit this network: {error}") from error


def with_own_ids(state: dict[str, torch.Tensor], words: Sequence[str]) -> tuple[dict, ReportTokenizer]:
    """A published file's ``state_dict`` with its rows in our order of tokens, and the tokenizer.

    Their id 0 is begin, end and padding at once, their ``words`` have ids from 1 on, one of them may be "<unk>". A
    network with the defaults for its ids then writes the same words (with ``unknown_id=-1``, unknown ones, too).

    Raises:
        ValueError: not as many words as the file has rows.
    """
    rows = len(state["encoder_decoder.logit.bias"])
    if len(words) != rows - 1:
        raise ValueError(f"words: {len(words)} for a file with {rows} rows; pass its vocabulary, {rows - 1} words")
    unknown = words.index("<unk>") + 1 if "<unk>" in words else 0
    known = [index for index, word in enumerate(words, start=1) if word != "<unk>"]
    order = torch.tensor([0, unknown, 0, 0, *known])
    moved = {name: value[order] if name in OF_WORDS else value for name, value in state.items()}
    moved["encoder_decoder.logit.bias"][[0, 2]] = -1e9  # padding and begin: never written
    return moved, ReportTokenizer.of_words([words[index - 1] for index in known])


def rename(name: str) -> str:
    """Our name of a published entry."""
    for pattern, replacement in RULES:
        name = re.sub(pattern, replacement, name)  # type: ignore[call-overload]
    return name
