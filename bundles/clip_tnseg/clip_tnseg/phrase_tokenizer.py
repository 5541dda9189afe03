"""The tokenizer of phrases: a word is a token, a Chinese character, too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from common.cli.atomic import write_text
from common.cli.given import require_file
from common.engine.distributed import is_first

SPECIAL = ("[PAD]", "[UNK]", "[BOS]", "[EOS]")  # ids 0 to 3


def fit(prompts: Iterable[str], *, max_size: int = 512) -> PreTrainedTokenizerFast:
    """Word-level tokenizer of ``prompts`` (each Chinese character is a word) that adds begin and end tokens.

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
    return _with_names(tokenizer)


def of_cases(cases: Iterable[Mapping], *, max_size: int) -> PreTrainedTokenizerFast:
    """:func:`fit` on each distinct ``prompt`` of ``cases``."""
    return fit(dict.fromkeys(case["prompt"] for case in cases), max_size=max_size)


def fit_or_load(
    *, path: str, cases: Iterable[Mapping], max_size: int, fit: bool, base: str | None = None
) -> PreTrainedTokenizerFast:
    """:func:`of_cases`; where a training goes on, the tokenizer that it began with.

    It is saved at once where no network lies beside ``path``; else with the new one (:func:`save`).

    Args:
        path: of the tokenizer of this training, read if ``fit`` is false.
        base: of the tokenizer of the training that this one starts from.
    """
    if not fit:
        return load(path=path)
    tokenizer = of_cases(cases, max_size=max_size) if base is None else load(path=base)
    if is_first() and not Path(path).with_name("model.pt").is_file():
        save(tokenizer=tokenizer, path=path)
    return tokenizer


def load(*, path: str) -> PreTrainedTokenizerFast:
    """The tokenizer in the file ``path``.

    Raises:
        FileNotFoundError: no such file.
        ValueError: it holds no tokenizer.
    """
    require_file(path, id="tokenizer", remedy="run train.json first, or pass --ckpt_dir FOLDER")
    try:
        return _with_names(Tokenizer.from_file(path))
    except Exception as error:  # tokenizers raises plain ones
        raise ValueError(f"tokenizer: {path!r} holds none ({error}); train again") from error


def save(*, tokenizer: PreTrainedTokenizerFast, path: str) -> list[str]:
    """Write it to ``path``, whole or not at all; a companion of a network's weights."""
    write_text(path, tokenizer.backend_tokenizer.to_str())
    return [path]


def _with_names(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    names = dict(zip(("pad_token", "unk_token", "bos_token", "eos_token"), SPECIAL, strict=True))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
