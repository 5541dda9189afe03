"""Weights under the names of the published SGF, loaded into our network."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from common.nn.published import load_into, renamed
from common.text.tokenizer import ReportTokenizer

from .network import SGF

RULES = (
    (r"^visual_extractor\.cov1x1\.", "visual.reduce."),
    (r"^visual_extractor\.model\.0\.", "visual.features.stem.0."),
    (r"^visual_extractor\.model\.1\.", "visual.features.stem.1."),
    (r"^visual_extractor\.model\.([4-7])\.", lambda match: f"visual.features.layer{int(match[1]) - 3}."),
    (r"^classfication_layers\.logit\.", "cluster_head.1."),
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
    load_into(network, renamed(state, RULES))


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
