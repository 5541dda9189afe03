"""The tokenizer of a small CLIP, and the pre-training that makes both where there are none."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping

from ignite import distributed as idist
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerBase, PreTrainedTokenizerFast

logger = logging.getLogger(__name__)
SPECIAL = ("[PAD]", "[UNK]", "[BOS]", "[EOS]")  # ids 0 to 3


def fit_tokenizer(prompts: Iterable[str], *, max_size: int = 512) -> PreTrainedTokenizerFast:
    """Word-level tokenizer of ``prompts`` (each Chinese character is a word) that adds begin and end tokens.

    ``AutoTokenizer`` loads what its ``save_pretrained`` writes, as it loads the published CLIP's tokenizer.

    Raises:
        ValueError: no prompt holds a word.
    """
    tokenizer = Tokenizer(models.WordLevel(unk_token=SPECIAL[1]))
    tokenizer.normalizer = normalizers.BertNormalizer(strip_accents=False)  # type: ignore[assignment]
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()  # type: ignore[assignment]
    trainer = trainers.WordLevelTrainer(vocab_size=max_size, special_tokens=list(SPECIAL), show_progress=False)
    tokenizer.train_from_iterator(prompts, trainer=trainer)
    if tokenizer.get_vocab_size() == len(SPECIAL):
        raise ValueError("prompts: no word in any of them, so there is no vocabulary to fit; check the phrases")
    ends = [(name, SPECIAL.index(name)) for name in SPECIAL[2:]]
    tokenizer.post_processor = processors.TemplateProcessing(single="[BOS] $A [EOS]", special_tokens=ends)  # type: ignore[assignment]
    names = dict(zip(("pad_token", "unk_token", "bos_token", "eos_token"), SPECIAL, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)


def tokenizer_of(cases: Iterable[Mapping], *, max_size: int) -> PreTrainedTokenizerFast:
    """:func:`fit_tokenizer` on each distinct ``prompt`` of ``cases``."""
    return fit_tokenizer(dict.fromkeys(case["prompt"] for case in cases), max_size=max_size)


def tokenizer_or_pretrain(
    *,
    folder: str,
    bundle_root: str,
    data_dir: str,
    cases: Iterable[Mapping],
    image_size: int,
    max_length: int,
    vocab_size: int,
    seed: int,
    sizes: Mapping[str, int],
    options: Mapping[str, object],
) -> PreTrainedTokenizerBase:
    """The tokenizer of the CLIP in ``folder``; where there is none, ``configs/pretrain_clip.json`` makes it first.

    Args:
        cases: of the training: what is wrong with them is told before the pre-training, and not by it.
        sizes: of the network, and ``options`` of the pre-training (``epochs, batch_size``).

    Raises:
        RuntimeError: the pre-training failed.
    """
    if not os.path.isfile(os.path.join(folder, "config.json")) and idist.get_rank() == 0:
        logger.info("no CLIP in %s: pre-training a small one on the images and phrases of %s", folder, data_dir)
        values = {
            "clip_dir": folder, "bundle_root": bundle_root, "dataset_dir": data_dir, "image_size": image_size,
            "max_length": max_length, "vocab_size": vocab_size, "seed": seed, **options,
            **{f"network_def#{name}": size for name, size in sizes.items()},
        }  # fmt: skip
        _run_pretraining(os.path.join(bundle_root, "configs", "pretrain_clip.json"), values)
    idist.barrier()
    return AutoTokenizer.from_pretrained(folder)


def tokenizer_files(*, folder: str) -> list[str]:
    """The tokenizer's file in the CLIP of ``folder``: a companion of a network's weights."""
    path = os.path.join(folder, "tokenizer.json")
    return [path] if os.path.isfile(path) else []


def _run_pretraining(config: str, overrides: Mapping[str, object]) -> None:
    """Run ``config`` in a process of its own, and alone even where this one is one of several ranks."""
    flags = [f"--{name}={value}" for name, value in overrides.items() if value is not None]
    ranks = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
    environment = {name: value for name, value in os.environ.items() if name not in ranks}
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", config, *flags]
    done = subprocess.run(command, env=environment, check=False, stderr=subprocess.PIPE, text=True)
    sys.stderr.write(done.stderr)
    if done.returncode != 0:
        reason = next((line for line in reversed(done.stderr.splitlines()) if line.strip()), "no reason given")
        raise RuntimeError(f"clip_dir: pre-training a CLIP into {overrides['clip_dir']!r} failed: {reason}")
