"""What an English sentence asserts of the phrases it holds: present, denied or uncertain (rules akin to NegEx).

A phrase list is a :class:`Lexicon`; a report becomes sentences of :class:`Entry`, and :func:`assertions` gives each
mention the status that the cues around it call for. Every step reads its input once: cost is linear in the length.

Sources: Chapman et al. 2001 (NegEx: cues before and after, phrases that only look like cues, ends of scope) and Harkema
et al. 2009 (ConText); lists, and how commas, verbs and alternatives end a scope, are ours.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

PRESENT, UNCERTAIN, ABSENT = "present", "uncertain", "absent"
_TOKEN = re.compile(r"[a-z]+(?:'[a-z]+)?|\n[ \t\r]*\n|[.;!?,:]")
_ENDS = (";", "!")
_MARKS = ".;!\n"
_TITLES = frozenset({"vs", "dr", "mr", "mrs", "approx"})  # a full stop after these ends no sentence, nor after a letter
_EITHER = "uncertain either side"
_CLOSERS = frozenset({",", ":", "?", "??", "and", "but", "present", "given", "however", "though", "although"})
LONGEST_WORD = 40  # letters; what is longer is no word


class Entry(NamedTuple):
    """What a phrase stands for; one phrase may be several things ("stable": a state and an attribute)."""

    phrase: str = ""
    names: tuple[str, ...] = ()
    subject: str = ""
    state: bool = False
    neutral: bool = False  # a state that says nothing: "stable"
    cue: str = ""


@dataclass
class Mention:
    """A phrase that is said of the patient, and how."""

    entry: Entry
    status: str


def expanded(pattern: str) -> list[str]:
    """Phrases that ``pattern`` stands for: ``a/b c`` is ``a c`` and ``b c``."""
    return [" ".join(words) for words in itertools.product(*(part.split("/") for part in pattern.split()))]


class Lexicon:
    """Phrases as a tree of words; ``*`` stands for any ending, and of two beginnings of a word the shorter counts."""

    def __init__(self) -> None:
        self._prefixes: list[str] = []
        self._phrases: list[tuple[str, dict]] = []
        self._tree: dict = {}
        self.word = lru_cache(maxsize=65536)(self._word)

    def add(self, phrases: Sequence[str], **meaning: object) -> None:
        """Give ``phrases`` a meaning: fields of :class:`Entry`."""
        for pattern in phrases:
            self._phrases += [(phrase, meaning) for phrase in expanded(pattern)]
            self._prefixes += [word[:-1] for word in re.split("[ /]", pattern) if word.endswith("*")]

    def build(self) -> Lexicon:
        """Make the tree of all that was added."""
        prefixes = "|".join(sorted(map(re.escape, self._prefixes), key=len))  # the shortest is tried first
        self._prefix = re.compile(prefixes or r"(?!)")
        for phrase, meaning in self._phrases:
            node = self._tree
            for word in self.canonical(phrase).split():
                node = node.setdefault(word, {})
            node[""] = node.get("", Entry(self.canonical(phrase)))._replace(**meaning)
        return self

    def canonical(self, phrase: str) -> str:
        """``phrase`` with each word as the tree knows it."""
        return " ".join(self.word(word.rstrip("*")) for word in phrase.split())

    def _word(self, word: str) -> str:
        stem = self._prefix.match(word) if len(word) <= LONGEST_WORD else None
        return stem.group() + "*" if stem else word

    def entries(self, words: Sequence[str]) -> list[Entry]:
        """Longest phrases of a sentence, from left to right; words of none are left out."""
        found, start = [], 0
        while start < len(words):
            node, end, entry = self._tree.get(words[start]), start, None
            start += 1
            while node is not None:
                end += 1
                if "" in node:
                    entry, start = node[""], end
                node = node.get(words[end]) if end < len(words) else None
            if entry is not None:
                goes_on = start < len(words) and words[start] not in _CLOSERS
                found.append(entry._replace(cue="uncertain before") if entry.cue == _EITHER and goes_on else entry)
        return found


def sentences(text: str, lexicon: Lexicon) -> Iterator[list[str]]:
    """Words of each sentence of ``text`` as ``lexicon`` knows them, with commas, colons and question marks.

    A sentence ends at ``. ; !``, a question mark and an empty line; not at the point of a number or an abbreviation.
    """
    words: list[str] = []
    lower, before = text.lower().replace("\u2019", "'"), ""
    for match in _TOKEN.finditer(lower):
        token = match.group()
        if token == ".":
            ends = not (lower[match.end() : match.end() + 1].isdigit() or before in _TITLES or len(before) == 1)
        else:
            ends = token in _ENDS or token[0] == "\n"
        if token == "?":
            ends = lower[match.start() - 1 : match.start()].isalpha()
            words.append("?" if ends else "??")
        elif token[0] not in _MARKS:
            words.append(lexicon.word(token))
        if ends and words:
            yield words
            words = []
        before = token
    if words:
        yield words


@dataclass
class _Scope:
    """Which cues are in force at one place of a sentence."""

    denied: bool = False
    uncertain: bool = False
    asked: bool = False  # "evaluation for pneumothorax is limited": nothing is claimed
    dormant: bool = False  # a denial that a verb has ended: "no opacity is seen | to suggest pneumonia"
    after_verb: bool = False  # a verb, or what is as good as one, stands between the group and here
    predicate: bool = False  # the group follows a verb
    adjacent: bool = False  # no cue stands between the last mention and here
    alternative: bool = False
    listed: bool = False  # an "or" was there: the list of what is denied ends with its next member
    group: list[Mention] = field(default_factory=list)  # what a cue that follows speaks of
    hanging: list[Mention] = field(default_factory=list)  # of "likely", should nothing follow it

    def status(self) -> str:
        return ABSENT if self.denied else UNCERTAIN if self.uncertain else PRESENT

    def settle(self) -> None:
        """A word such as "likely" was not followed by a mention: it speaks of those before it."""
        if self.hanging:
            _weaken(self.hanging)
            self.hanging = self.group = []


def _weaken(mentions: list[Mention]) -> None:
    for mention in mentions:
        if mention.status == PRESENT:
            mention.status = UNCERTAIN


def assertions(entries: Sequence[Entry]) -> list[Mention]:
    """Mentions and states with their status, and subjects, neutral states, verbs and commas, in their order."""
    mentions, scope = [], _Scope()
    more = _alternatives_follow(entries)
    for index, entry in enumerate(entries):
        if (entry.names or entry.state) and not scope.asked:
            mentions.append(_mention(scope, entry))
        elif entry.subject or entry.neutral or entry.cue in ("verb", "comma"):
            mentions.append(Mention(entry, PRESENT))
        if entry.cue:
            following = entries[index + 1].cue if index + 1 < len(entries) else ""
            scope = _after_cue(scope, entry.cue, more[index], following == "attribute")
    scope.settle()
    return mentions


def _alternatives_follow(entries: Sequence[Entry]) -> list[bool]:
    """For each place, whether an "or" stands later in the same clause: a list goes on until there."""
    follows, result = False, []
    for entry in reversed(entries):
        result.append(follows)
        if entry.cue == "alternative":
            follows = True
        elif entry.cue in ("end of scope", "verb", "colon", "absent before"):
            follows = False
    return result[::-1]


def _mention(scope: _Scope, entry: Entry) -> Mention:
    mention = Mention(entry, scope.status())
    if scope.after_verb or (scope.group and scope.group[-1].entry.state):
        scope.predicate, scope.group = scope.after_verb, []
    if scope.alternative and scope.group and entry.names and not scope.denied:
        _weaken([scope.group[-1], mention])
    scope.after_verb = scope.alternative = False
    scope.adjacent = True
    scope.dormant, scope.hanging = scope.dormant and scope.denied, []
    scope.group.append(mention)
    return mention


def _after_cue(scope: _Scope, cue: str, more: bool, attribute: bool) -> _Scope:
    """The scope behind ``cue``; ``more``: its list goes on; ``attribute``: "small", "left", ... stands next."""
    if cue == "end of scope" or cue == "colon":
        scope.settle()
        return _Scope(group=scope.group if cue == "colon" else [])
    if cue == "absent before":
        scope.denied, scope.adjacent = True, False
    elif cue == "uncertain before" or cue == _EITHER:
        scope.hanging = scope.group if cue == _EITHER else scope.hanging
        scope.uncertain, scope.adjacent, scope.after_verb = True, False, True
    elif cue == "no claim before":
        scope.asked = True
    elif cue == "of the denied":
        scope.denied, scope.uncertain = scope.denied or scope.dormant, True
    elif cue == "absent after":
        for mention in scope.group:
            mention.status = ABSENT
        return _Scope()
    elif cue == "uncertain after":
        for mention in scope.group:
            mention.status = UNCERTAIN
        return _Scope()
    else:
        _at_joint(scope, cue, more, attribute)
    return scope


def _at_joint(scope: _Scope, cue: str, more: bool, attribute: bool) -> None:
    """Verbs end a denial; commas and "and" end what is uncertain, and both before a new noun phrase."""
    if cue == "verb":
        scope.dormant, scope.denied = scope.denied or scope.dormant, False
        scope.after_verb, scope.asked, scope.adjacent = True, False, False
    elif cue == "alternative":
        scope.alternative, scope.listed = scope.adjacent, True
    elif cue == "comma" or cue == "list":
        if cue == "comma":
            scope.settle()
        if not more and (attribute or (cue == "comma" and scope.listed)):
            scope.denied = False
        if not more and (attribute or cue == "comma"):
            scope.uncertain = scope.asked = False
        if scope.predicate:
            scope.group, scope.predicate = [], False
