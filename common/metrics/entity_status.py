"""What a report, English or Chinese, says of each entity that it names: present, absent or uncertain.

English: the cues of :mod:`common.metrics.observations` by the rules of :mod:`common.metrics.assertion`. Chinese: a
denial holds from its cue ("未见", "无") to the end of its clause, a word of doubt ("可能") for its whole clause;
"无回声" (anechoic) denies nothing, "未见导管扩张" the change and not the duct. Rules and words are ours.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from common.metrics.assertion import ABSENT, PRESENT, UNCERTAIN, Lexicon, assertions, sentences
from common.metrics.entities import pattern_of
from common.metrics.observations import FILE as CUES
from common.metrics.observations import in_sentences

Entities = dict[str, list[str]]
_RANK = {ABSENT: 1, UNCERTAIN: 2, PRESENT: 3}
_NOT = re.compile(r"\b(?:not|no)\b")
_CHINESE = re.compile(r"[\u4e00-\u9fff]")
_CLAUSE = re.compile(r"[^。；;！!，,.\n但而]+")
_SEEN = "见|探及|探测到|探到|显示|发现|检出|检测到|触及|扫及|查见|及|提示|出现|闻及|引出|测及|记录到|测到"
_EXCLUDED = "(?:完全)?(?:除外|排除)"
_DENIED = re.compile(
    rf"未(?:能)?(?:明确|明显|清晰)?(?:{_SEEN})|无(?!回声|痛|症状|(?:明显)?诱因)|没有|不伴|不含|否认|排除|除外"
)
_GONE = re.compile(r"[^、及和或]*?(?:消失|拔除|切除|缺如)|(?:均)?未(?:见)?(?:显示|探及|发现)?$")
_CHANGE = re.compile("扩张|增宽|增粗|增厚|狭窄|受压|移位")  # of the entity before it, which is there
_DOUBTED = re.compile(
    rf"(?:不(?:能|可)?|未(?:能)?){_EXCLUDED}|待{_EXCLUDED}|待排|可疑|疑似|疑|考虑|可能|倾向|不确定|[?？]"
)
FINDINGS = frozenset({  # what may be absent; the other entities are places and their looks, denied with a finding there
    "lesion", "nodule", "tumour", "lymph node", "CDFI", "pleural effusion", "pneumothorax", "consolidation",
    "atelectasis", "granuloma", "device",
})  # fmt: skip


def statuses(report: str, entities: Entities) -> dict[str, str]:
    """Of each of ``entities`` that ``report`` names: "present", "uncertain" or "absent".

    Over its mentions present goes before uncertain, and that before absent. Only :data:`FINDINGS` are not present: "no
    nodule in the left lobe" says that there is a left lobe.
    """
    best: dict[str, str] = {}
    for name, found in status_mentions(report, entities):
        status = found if name in FINDINGS else PRESENT
        best[name] = max(status, best.get(name, status), key=_RANK.__getitem__)
    return {name: best[name] for name in entities if name in best}


def status_mentions(report: str, entities: Entities) -> Iterator[tuple[str, str]]:
    """Each mention of one of ``entities`` and its status; of a place, that of what is or is not there."""
    return _chinese(report, entities) if _CHINESE.search(report) else _english(report, entities)


def _chinese(report: str, entities: Entities) -> Iterator[tuple[str, str]]:
    """Each entity of each clause, as its last mention there has it: "CDFI：未见血流" denies the flow."""
    patterns = {name: pattern_of(tuple(words)) for name, words in entities.items()}
    for clause in _CLAUSE.findall(report.lower()):
        doubted = _DOUBTED.search(clause) is not None
        denial = None if doubted else _DENIED.search(clause)
        for name, pattern in patterns.items():
            last = next(reversed(list(pattern.finditer(clause))), None)
            if last is not None:
                denied = denial is not None and last.start() >= denial.end() and not _CHANGE.match(clause, last.end())
                gone = _GONE.match(clause, last.end()) is not None
                yield name, ABSENT if denied or gone else UNCERTAIN if doubted else PRESENT


def _english(report: str, entities: Entities) -> Iterator[tuple[str, str]]:
    """Each entity of each sentence, by the rules for findings; its words stand there as one word of our own."""
    words = tuple(dict.fromkeys(word for words in entities.values() for word in words if not _CHINESE.search(word)))
    stand_in = {word: f"entityx{chr(97 + index // 26)}{chr(97 + index % 26)}" for index, word in enumerate(words)}
    meant = {stand_in[word]: tuple(n for n, of in entities.items() if any(map(word.startswith, of))) for word in words}
    text = _any_of(words).sub(lambda match: f"{stand_in[match['word']]} ", in_sentences(report).lower())
    return _asserted(text, tuple(meant.items()))


class Claim(NamedTuple):
    """What an English report says of a finding at one place: "present", "uncertain" or "absent", from ``start`` on."""

    name: str
    status: str
    start: int


def phrase_claims(report: str, phrases: Mapping[str, str]) -> list[Claim]:
    """Each mention in an English report, as :func:`in_sentences` has it in lower case, of findings that ``phrases``,
    patterns in lower case, name.

    A phrase counts from the beginning of its first word to the end of its last; a "not" within it denies it ("heart is
    not enlarged").
    """
    text = in_sentences(report).lower()
    groups = {f"phrase_{index}": name for index, name in enumerate(phrases)}
    matches = list(_any_phrase(tuple(zip(groups, phrases.values(), strict=True))).finditer(text))
    tokens = [f"phrase{chr(97 + index // 26 % 26)}{chr(97 + index % 26)}" for index in range(len(matches))]
    pieces, end = [], 0
    for match, token in zip(matches, tokens, strict=True):
        pieces += [text[end : match.start()], " no " if _NOT.search(match[0]) else " ", token, " "]
        end = match.end()
    statuses = dict(_asserted("".join([*pieces, text[end:]]), tuple((token, (token,)) for token in tokens)))
    return [
        Claim(groups[str(match.lastgroup)], statuses[token], match.start())
        for match, token in zip(matches, tokens, strict=True)
        if token in statuses
    ]


@lru_cache
def _any_phrase(patterns: tuple[tuple[str, str], ...]) -> re.Pattern[str]:
    return re.compile("|".join(rf"(?P<{group}>[a-z]*(?:{pattern})[a-z]*)" for group, pattern in patterns))


def _asserted(text: str, meant: tuple[tuple[str, tuple[str, ...]], ...]) -> Iterator[tuple[str, str]]:
    """Each mention of a word of ``meant`` in ``text``: what it names, and its status."""
    lexicon = _lexicon(meant)
    for sentence in sentences(text, lexicon):
        for mention in assertions(lexicon.entries(sentence)):
            yield from ((name, mention.status) for name in mention.entry.names)


@lru_cache
def _any_of(words: tuple[str, ...]) -> re.Pattern[str]:
    """Any of ``words``, the longest first, to the end of the word that it begins."""
    longest = sorted(words, key=len, reverse=True)
    return re.compile(rf"(?<![a-z])(?P<word>{'|'.join(map(re.escape, longest))})(?:(?<= )|[a-z]*)")


@lru_cache
def _lexicon(meant: tuple[tuple[str, tuple[str, ...]], ...]) -> Lexicon:
    """Cues, and the words of ``meant`` with the entities that each names."""
    lexicon = Lexicon()
    for cue, phrases in json.loads(CUES.read_text(encoding="utf-8"))["cues"].items():
        lexicon.add(phrases, cue=cue)
    for word, names in meant:
        lexicon.add([word], names=names)
    return lexicon.build()


def status_scores(generated: Sequence[str], references: Sequence[str], entities: Entities) -> dict[str, float]:
    """``entity_status_f1``: F1 of the entities that both reports name with the same status; NaN where none is named.
    ``entity_contradictions``: share of reports that deny what their reference states, or state what it denies.

    Raises:
        ValueError: not as many generated reports as references, or none.
    """
    if len(generated) != len(references) or not references:
        raise ValueError(f"reports: {len(generated)} generated for {len(references)} references; give one each")
    pairs = [(statuses(a, entities), statuses(b, entities)) for a, b in zip(generated, references, strict=True)]
    named = sum(len(a) + len(b) for a, b in pairs)
    same = sum(status == b.get(name) for a, b in pairs for name, status in a.items())
    return {
        "entity_status_f1": 2 * same / named if named else float("nan"),
        "entity_contradictions": float(np.mean([bool(contradictions(a, b)) for a, b in pairs])),
    }


def contradictions(generated: dict[str, str], reference: dict[str, str]) -> list[str]:
    """Entities that one report says are present and the other denies."""
    return [name for name in generated if {generated[name], reference.get(name)} == {PRESENT, ABSENT}]
