"""Reports to token ids: a word-level vocabulary fitted on the training reports, or a Hugging Face tokenizer.

A report is cut into sentences, because the text path encodes each sentence by itself, and sentences into tokens that
remember where they stand in the text. English words and numbers, Chinese words (through jieba), and placeholders such
as ``_2DS_`` are single tokens.
"""

from __future__ import annotations

import json
import logging
import os
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import NamedTuple, Protocol

from tokenizers import Tokenizer, models
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from common.cli.atomic import write_json
from common.cli.given import import_package
from common.cli.reading import read_json, read_text
from common.engine.distributed import is_first
from common.text.cache import LRUCache

logger = logging.getLogger(__name__)
PHRASES = 32_768  # runs of Chinese whose words are kept: reports repeat them
PAD, UNKNOWN, BEGIN, END = "[PAD]", "[UNK]", "[BOS]", "[EOS]"  # ids 0, 1, 2, 3
BEGIN_ID, END_ID = 2, 3
ONE_AT_A_TIME = threading.Lock()  # Hugging Face's tokenizers refuse a second thread
_CHINESE = r"[\u3400-\u4dbf\u4e00-\u9fff]"
WORD = re.compile(
    rf"_[A-Za-z0-9]+_|(?P<chinese>{_CHINESE}+)|[^\W\d_]+(?:[-'][^\W\d_]+)*|\d+(?:\.\d+)?|[^\w\s]|_", re.UNICODE
)


class Token(NamedTuple):
    """One token: its id, and the characters ``text[start:end]`` it stands for (empty for a special token)."""

    id: int
    start: int
    end: int


class SentenceTokenizer(Protocol):
    """What the transforms and the networks need of a tokenizer."""

    @property
    def special_ids(self) -> list[int]: ...

    def encode(self, sentence: str) -> list[Token]: ...

    def decode(self, ids: Iterable[int]) -> str: ...

    def __len__(self) -> int: ...


class ReportTokenizer:
    """Word-level tokenizer with the fixed ids pad 0, unknown 1, begin 2, end 3; one JSON file of our own form.

    Args:
        backend: the vocabulary.
        user_words: words that jieba must keep whole.
    """

    def __init__(self, backend: PreTrainedTokenizerFast, *, user_words: Sequence[str] = ()) -> None:
        self.backend, self.user_words = backend, list(user_words)

    def __reduce__(self) -> tuple:
        """Fitted or loaded, it is pickled to the same bytes; jieba is made again where it is needed."""
        return _of_text, (self.backend.backend_tokenizer.to_str(), self.user_words)

    @classmethod
    def fit(
        cls,
        reports: Iterable[str],
        *,
        max_size: int = 4096,
        min_count: int = 1,
        user_dictionary: str | None = None,
        base: ReportTokenizer | None = None,
    ) -> ReportTokenizer:
        """Build the vocabulary of ``reports``: the most frequent words first, ties in alphabetical order.

        Args:
            max_size: entries at most, the four special tokens included.
            min_count: a rarer word is unknown.
            user_dictionary: a jieba dictionary file: a word a line, a frequency and a tag may follow.
            base: keep its words under their ids and append the new ones, so that a network trained with it goes on.

        Raises:
            FileNotFoundError: there is no ``user_dictionary``.
            ValueError: no report holds a word.
        """
        user_words = [*(base.user_words if base else ()), *(_read_words(user_dictionary) if user_dictionary else ())]
        tokenizer = cls(_backend([]), user_words=user_words)
        counts = Counter(word for report in reports for word in tokenizer.words(report))
        if not counts:
            raise ValueError("reports: no word in any of them, so there is no vocabulary to fit; check the texts")
        known = base.vocabulary if base else []
        new = {word for word, count in counts.items() if count >= min_count} - set(known)
        ranked = [*known, *sorted(new, key=lambda word: (-counts[word], word))]
        if len(ranked) > max_size - 4:
            logger.warning(
                "vocab_size: %d holds %d of the %d words; the rarest are unknown", max_size, max_size - 4, len(ranked)
            )
        return cls(_backend(ranked[: max_size - 4]), user_words=user_words)

    @classmethod
    def of_words(cls, words: Sequence[str]) -> ReportTokenizer:
        """A tokenizer with a given vocabulary; ids from 4 on."""
        return cls(_backend(list(words)))

    @classmethod
    def untrained(cls, *, user_dictionary: str | None = None) -> ReportTokenizer:
        """A tokenizer that splits into words and knows none."""
        return cls(_backend([]), user_words=_read_words(user_dictionary) if user_dictionary else ())

    def save(self, path: str | Path) -> list[str | Path]:
        """Write the tokenizer to one JSON file, whole or not at all; return its path."""
        content = {"user_words": self.user_words, "tokenizer": json.loads(self.backend.backend_tokenizer.to_str())}
        write_json(path, content)
        return [path]

    def saver(self, path: str) -> Callable[[], list[str | Path]]:
        """:meth:`save` to ``path``, as a companion of a network's weights."""
        return partial(self.save, path)

    @classmethod
    def load(cls, path: str | Path) -> ReportTokenizer:
        """Read what :meth:`save` wrote; in its folder also the file's name of version 0.1.0, ``tokenizer.json``.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is no saved tokenizer.
        """
        former = Path(path).with_name("tokenizer.json")
        file = Path(path) if Path(path).is_file() else former
        if not file.is_file():
            raise FileNotFoundError(f"tokenizer: no file {str(path)!r}; run train.json first, which fits and saves it")
        content = read_json(file, what="tokenizer")
        try:
            backend, words = Tokenizer.from_str(json.dumps(content["tokenizer"])), [*map(str, content["user_words"])]
        except Exception as error:  # tokenizers raises nothing narrower
            raise ValueError(f"tokenizer: {str(file)!r} is no saved ReportTokenizer; fit it by training") from error
        return cls(_wrap(backend), user_words=words)

    def words(self, text: str) -> list[str]:
        """Split ``text`` into the words that the vocabulary counts; English in lower case."""
        return [word for word, _, _ in self._split(text)]

    @property
    def vocabulary(self) -> list[str]:
        """The words in the order of their ids, from 4 on."""
        ids = self.backend.get_vocab()
        return sorted(ids, key=ids.__getitem__)[4:]

    def encode(self, sentence: str) -> list[Token]:
        """Token ids with their positions in ``sentence``; no begin or end token is added."""
        pieces = self._split(sentence)
        ids = self.backend.convert_tokens_to_ids([word for word, _, _ in pieces])
        return [Token(i, start, end) for i, (_, start, end) in zip(ids, pieces, strict=True)]  # type: ignore[arg-type]

    def decode(self, ids: Iterable[int]) -> str:
        """Text of ``ids`` without special tokens; Chinese is not spaced; an id beyond the vocabulary is unknown."""
        words = self.backend.convert_ids_to_tokens([i for i in ids if i not in self.special_ids])
        text = re.sub(r"\s+([.,;:!?%)])", r"\1", " ".join(word or UNKNOWN for word in words))
        return re.sub(rf"(?<={_CHINESE[:-1]}，。；：！？]) | (?={_CHINESE[:-1]}，。；：！？])", "", text)

    @property
    def special_ids(self) -> list[int]:
        """Ids that are no words: pad, begin, end. An unknown word is a word."""
        return [0, BEGIN_ID, END_ID]

    def __len__(self) -> int:
        return len(self.backend)

    def _split(self, text: str) -> list[tuple[str, int, int]]:
        pieces = []
        for match in WORD.finditer(text):
            if match["chinese"]:
                pieces += [(w, match.start() + s, match.start() + e) for w, s, e in self._chinese(match[0])]
            else:
                word = match[0] if match[0].startswith("_") else match[0].lower()
                pieces.append((word, match.start(), match.end()))
        return pieces

    def _chinese(self, text: str) -> list[tuple[str, int, int]]:
        return self._phrases.get(text, lambda: list(self._jieba.tokenize(text)))

    @cached_property
    def _phrases(self) -> LRUCache[str, list[tuple[str, int, int]]]:
        return LRUCache(PHRASES)

    @cached_property
    def _jieba(self):  # type: ignore[no-untyped-def]
        jieba = import_package("jieba", package="jieba", extra="chinese")  # a second to load: for Chinese text alone
        jieba.setLogLevel(logging.WARNING)
        segmenter = jieba.Tokenizer()
        for word in self.user_words:
            segmenter.add_word(word)
        return segmenter


class HuggingFaceTokenizer:
    """The tokenizer of a pretrained text encoder, behind the same interface; each sentence has its special tokens.

    Args:
        source: a local folder or a hub name.

    Raises:
        OSError: neither a folder nor a reachable hub name.
    """

    def __init__(self, source: str) -> None:
        self.backend = AutoTokenizer.from_pretrained(source)

    def encode(self, sentence: str) -> list[Token]:
        with ONE_AT_A_TIME:
            encoding = self.backend(sentence, return_offsets_mapping=True, verbose=False)
        return [Token(i, *span) for i, span in zip(encoding["input_ids"], encoding["offset_mapping"], strict=True)]

    def decode(self, ids: Iterable[int]) -> str:
        return self.backend.decode(list(ids), skip_special_tokens=True)  # type: ignore[return-value]

    @property
    def special_ids(self) -> list[int]:
        return [i for i in self.backend.all_special_ids if i != self.backend.unk_token_id]

    def saver(self, _: str) -> Callable[[], list[str | Path]]:
        """As :meth:`ReportTokenizer.saver`; it stays in the folder that it came from."""
        return list

    def __len__(self) -> int:
        return len(self.backend)


def fit_or_load(
    *,
    path: str,
    cases: Sequence[Mapping],
    fit: bool,
    max_size: int = 4096,
    min_count: int = 1,
    user_dictionary: str | None = None,
    pretrained: str | None = None,
) -> ReportTokenizer:
    """Fit a tokenizer on each ``report`` of ``cases``; or, to resume, load that of ``path``.

    It is saved at once where no network lies beside ``path``; else with the new one (:meth:`ReportTokenizer.saver`).

    Cases without reports, as MONAI Label gives them, leave the tokenizer of ``path`` as it is.

    Args:
        pretrained: folder of the training that this one starts from, whose tokenizer is extended.
    """
    if not fit:
        return ReportTokenizer.load(path)
    if not any("report" in case for case in cases) and os.path.isfile(path):
        logger.warning("%d training images without reports: the tokenizer of %s is kept", len(cases), path)
        return ReportTokenizer.load(path)
    known = None if pretrained is None else ReportTokenizer.load(str(Path(pretrained) / Path(path).name))
    tokenizer = ReportTokenizer.fit(
        dict.fromkeys(case.get("report", "") for case in cases),
        max_size=max_size,
        min_count=min_count,
        user_dictionary=user_dictionary,
        base=known,
    )
    if is_first() and not Path(path).with_name("model.pt").is_file():
        tokenizer.save(path)
    return tokenizer


def _of_text(content: str, words: list[str]) -> ReportTokenizer:
    return ReportTokenizer(_wrap(Tokenizer.from_str(content)), user_words=words)


def _backend(words: list[str]) -> PreTrainedTokenizerFast:
    vocabulary = {word: index for index, word in enumerate([PAD, UNKNOWN, BEGIN, END, *words])}
    return _wrap(Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN)))


def _wrap(tokenizer: Tokenizer) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, unk_token=UNKNOWN, bos_token=BEGIN, eos_token=END
    )


def _read_words(user_dictionary: str) -> list[str]:
    if not os.path.isfile(user_dictionary):
        raise FileNotFoundError(f"user_dictionary: no file {user_dictionary!r}; pass a jieba dictionary or null")
    lines = read_text(user_dictionary, what="user_dictionary").splitlines()
    return [line.split()[0] for line in lines if line.strip()]
