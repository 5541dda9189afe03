"""The tokenizer of phrases: a word is a token, a Chinese character, too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from common.cli.atomic import write_text
from common.cli.given import require_file
from common.datasets.phrases import prompt_of
from common.engine.distributed import is_first
from common.text.tokenizer import BEGIN, END, PAD, UNKNOWN

NORMALIZER, SPLITTER = normalizers.BertNormalizer(strip_accents=False), pre_tokenizers.BertPreTokenizer()
SPECIAL = (PAD, UNKNOWN, BEGIN, END)  # ids 0 to 3


def fit(
    prompts: Iterable[str], *, max_size: int = 512, base: PreTrainedTokenizerFast | None = None
) -> PreTrainedTokenizerFast:
    """Word-level tokenizer of ``prompts`` (each Chinese character is a word) that adds begin and end tokens.

    Args:
        max_size: tokens at most, the commonest words first.
        base: a tokenizer to extend: its words keep their ids, new ones follow.

    Raises:
        ValueError: no prompt holds a word.
    """
    ids = {name: index for index, name in enumerate(SPECIAL)} if base is None else dict(base.get_vocab())
    counts = Counter(word for prompt in prompts for word in _words(prompt))
    new = sorted(counts.keys() - ids.keys(), key=lambda word: (-counts[word], word))
    ids |= {word: len(ids) + index for index, word in enumerate(new[: max(0, max_size - len(ids))])}
    if len(ids) == len(SPECIAL):
        raise ValueError("prompts: no word in any of them, so there is no vocabulary to fit; check the phrases")
    tokenizer = Tokenizer(models.WordLevel(ids, unk_token=SPECIAL[1]))
    tokenizer.normalizer, tokenizer.pre_tokenizer = NORMALIZER, SPLITTER  # type: ignore[assignment]
    ends = [(name, SPECIAL.index(name)) for name in SPECIAL[2:]]
    tokenizer.post_processor = processors.TemplateProcessing(single="[BOS] $A [EOS]", special_tokens=ends)  # type: ignore[assignment]
    tokenizer.add_special_tokens(list(SPECIAL))
    return _with_names(tokenizer)


def _words(prompt: str) -> list[str]:
    return [word for word, _ in SPLITTER.pre_tokenize_str(NORMALIZER.normalize_str(prompt))]


def of_cases(
    cases: Iterable[Mapping], *, max_size: int, base: PreTrainedTokenizerFast | None = None
) -> PreTrainedTokenizerFast:
    """:func:`fit` on each distinct ``prompt`` of ``cases``, or that of their phrase."""
    return fit(dict.fromkeys(prompt_of(case) for case in cases), max_size=max_size, base=base)


def fit_or_load(
    *, path: str, cases: Sequence[Mapping], max_size: int, fit: bool, pretrained: str | None = None
) -> PreTrainedTokenizerFast:
    """:func:`of_cases`; where a training goes on, the tokenizer that it began with.

    It is saved at once where no network lies beside ``path``; else with the new one (:func:`save`). Cases without
    phrases, as MONAI Label gives them, leave the tokenizer of ``path`` as it is.

    Args:
        path: of the tokenizer of this training, read if ``fit`` is false.
        pretrained: folder of the training that this one starts from, whose tokenizer is extended.
    """
    if not fit or (Path(path).is_file() and not any({"prompt", "phrase"} & set(case) for case in cases)):
        return load(path=path)
    base = None if pretrained is None else load(path=str(Path(pretrained) / Path(path).name))
    tokenizer = of_cases(cases, max_size=max_size, base=base)
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
