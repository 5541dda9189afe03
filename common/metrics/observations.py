"""The 14 observations of CheXpert in English chest X-ray reports, by rules: present, absent, uncertain or not named.

The observations, the four answers, "present before uncertain before absent" over the mentions of a report and the rule
of No Finding are those of Irvin et al. 2019 (CheXpert); phrases (``observations.json``) and rules are ours, so labels
differ from that labeller's. Ours: sections that say why and how a patient was examined are left out; statements about
heart, mediastinum, lungs, vessels, pleura and costophrenic angles count ("the heart is normal": Cardiomegaly is absent;
"the lungs are clear": Lung Opacity and Consolidation are absent). No observation follows from another one.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.metrics.assertion import (
    ABSENT,
    PRESENT,
    UNCERTAIN,
    Entry,
    Lexicon,
    Mention,
    assertions,
    expanded,
    sentences,
)

FILE = Path(__file__).with_name("observations.json")
NO_FINDING, DEVICES = "No Finding", "Support Devices"
NOT_NAMED = "not named"
OBSERVATIONS = (
    NO_FINDING,
    "Enlarged Cardiomediastinum",
    "Cardiomegaly",
    "Lung Opacity",
    "Lung Lesion",
    "Edema",
    "Consolidation",
    "Pneumonia",
    "Atelectasis",
    "Pneumothorax",
    "Pleural Effusion",
    "Pleural Other",
    "Fracture",
    DEVICES,
)
FIVE = ("Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Pleural Effusion")
POSITIVE = (PRESENT, UNCERTAIN)
_RANK = {ABSENT: 1, UNCERTAIN: 2, PRESENT: 3}
_REASON = (
    r"indications?|history|clinical (?:history|information|indication|data)|reason for (?:this )?(?:exam|study)\w*"
)
_METHOD = r"comparisons?|techniques?|examinations?|exam|study|procedure"
_BODY = r"findings?|impressions?|conclusions?|report|wet read|recommendations?|notifications?"
_HEADING = re.compile(rf"\b(?:(?P<reason>{_REASON})|(?P<method>{_METHOD})|{_BODY})[ \t]?:", re.IGNORECASE)
_BREAK = re.compile(r"\n[ \t\r]*\n|\n[ \t]*[A-Z][A-Z ,()]{3,60}:")
_SENTENCE_END = re.compile(r"\.(?=\s|$)")
_CLAUSE_END = r"(?=[ \t]?(?:[.;,\n]|$))"
_ANSWER = re.compile(
    rf"[ \t]?(?::|[ \t]-)[ \t]?(?:none|no|absent|negative|nil|not (?:seen|present|identified)){_CLAUSE_END}",
    re.IGNORECASE,
)
_AFTER_NOUN = "".join(rf"(?<!{word} )" for word in ("ly", "not", "yet", "almost", "has", "have", "is", "are", "now"))
_RESOLVED = re.compile(rf"{_AFTER_NOUN}\bresolved{_CLAUSE_END}", re.IGNORECASE)


class Statements(NamedTuple):
    """What the states of one subject say: for each state of ``labels`` a label of the observations ``of``."""

    of: tuple[str, ...]
    labels: dict[str, str]


@cache
def _rules() -> tuple[Lexicon, dict[str, Statements]]:
    """Phrases and statements of ``observations.json``."""
    content = json.loads(FILE.read_text(encoding="utf-8"))
    lexicon = Lexicon()
    for name, phrases in content["observations"].items():
        lexicon.add(phrases, names=(name,))
    for phrase, names in content["several"].items():
        lexicon.add([phrase], names=tuple(names))
    lexicon.add(content["other"], names=())
    for cue, phrases in content["cues"].items():
        lexicon.add(phrases, cue=cue)
    lexicon.add(content["neutral states"], neutral=True)
    for part in content["statements"].values():
        lexicon.add([state for label in _RANK for state in part.get(label, [])], state=True)
    for subject, part in content["statements"].items():
        lexicon.add(part["subjects"], subject=subject)
    lexicon.build()
    return lexicon, {
        subject: Statements(tuple(part["of"]), _labels_of_states(lexicon, part))
        for subject, part in content["statements"].items()
    }


def _labels_of_states(lexicon: Lexicon, part: dict[str, list[str]]) -> dict[str, str]:
    labelled = [(state, status) for status in _RANK for pattern in part.get(status, []) for state in expanded(pattern)]
    return {lexicon.canonical(state): status for state, status in labelled}


@dataclass
class _Subjects:
    """Subjects that stand together ("heart and mediastinum"), and the states that are said of all of them."""

    names: list[str]
    states: list[Mention] = field(default_factory=list)
    inherited: list[Mention] = field(default_factory=list)  # of "normal heart and mediastinum", for the second
    attributive: bool = False  # the state stood before the subject
    verb: bool = False
    closed: bool = False  # what follows is said of the next ones


def _statements(mentions: Sequence[Mention]) -> list[_Subjects]:
    """Which state of a sentence is said of which subject: of those before it, or, once they have one, of the next."""
    groups: list[_Subjects] = []
    held: list[Mention] = []
    for mention in mentions:
        entry, last = mention.entry, groups[-1] if groups else None
        if entry.subject or entry.names:
            _add_subject(groups, held, entry)
            held = []
        elif entry.state or (entry.neutral and (last is None or not last.closed)):
            if last is None or last.closed:
                held = [mention]
            else:
                last.states.append(mention)
                last.closed = entry.state
        elif last is not None and entry.cue == "verb":
            last.verb, last.closed = True, last.closed and bool(last.states)
        elif last is not None and last.states:
            last.closed = True
    if held and groups:
        groups[-1].states += held
    return groups


def _add_subject(groups: list[_Subjects], held: list[Mention], entry: Entry) -> None:
    """A subject joins those before it, unless they have a state or a verb, or one is held for it."""
    last = groups[-1] if groups else None
    subject = entry.subject or "others"
    if held:
        said = bool(held[0].entry.state)
        groups.append(_Subjects([subject], list(held), attributive=said, closed=said))
    elif last is None or last.closed or last.verb or entry.names:
        inherited = (last.states or last.inherited) if last and last.attributive and not last.verb else []
        groups.append(_Subjects([subject], inherited=inherited, attributive=bool(inherited)))
        groups[-1].closed = bool(entry.names)
    else:
        last.names.append(subject)


def _stated(mentions: Sequence[Mention]) -> Iterator[tuple[str, str]]:
    """Observations and labels that the statements of a sentence give."""
    _, statements = _rules()
    for group in _statements(mentions):
        states = [state for state in group.states if state.entry.state] or group.inherited
        for state, subject in itertools.product(states, group.names):
            said = statements[subject].labels.get(state.entry.phrase)
            if said == ABSENT == state.status:  # "not normal" does not say what is wrong
                yield NO_FINDING, ABSENT
            elif said:
                status = said if said == ABSENT or state.status == PRESENT else state.status
                yield from ((name, status) for name in statements[subject].of)


def findings_section(report: str) -> str:
    """``report`` without the sections that say why and how the patient was examined, if it has headings.

    A reason ends at the next heading or an empty line, or else, as a method does, with its line or sentence.
    """
    kept, position = [], 0
    headings = list(_HEADING.finditer(report)) if ":" in report else []
    ends = [*(heading.start() for heading in headings[1:]), len(report)]
    for heading, following in zip(headings, ends, strict=False):
        if (heading["reason"] or heading["method"]) and heading.start() >= position:
            kept.append(report[position : heading.start()])
            position = _section_end(report, heading, following)
    return "\n\n".join([*kept, report[position:]])


def _section_end(report: str, heading: re.Match[str], following: int) -> int:
    start = heading.end()
    while start < following and report[start].isspace():
        start += 1
    if heading["reason"]:
        paragraph = _BREAK.search(report, start, following)
        if paragraph or following < len(report):
            return paragraph.start() if paragraph else following
    ends = (re.compile(r"\n").search(report, start, following), _SENTENCE_END.search(report, start, following))
    return min([following, *(match.start() for match in ends if match)])


def label_report(report: str) -> dict[str, str]:
    """For each of :data:`OBSERVATIONS`, in their order: "present", "absent", "uncertain" or "not named".

    No Finding is present where nothing but Support Devices is present or uncertain, and nothing is said to be not
    normal; else, and of a report without a word, not named.
    """
    lexicon, _ = _rules()
    best = dict.fromkeys(OBSERVATIONS, NOT_NAMED)
    any_words = False
    for words in sentences(in_sentences(findings_section(report)), lexicon):
        any_words = True
        mentions = assertions(lexicon.entries(words))
        for name, status in itertools.chain(_named(mentions), _stated(mentions)):
            if _RANK[status] > _RANK.get(best[name], 0):
                best[name] = status
    not_normal, best[NO_FINDING] = best[NO_FINDING] == ABSENT, NOT_NAMED
    found = any(status in POSITIVE for name, status in best.items() if name != DEVICES)
    if any_words and not found and not not_normal:
        best[NO_FINDING] = PRESENT
    return best


def in_sentences(report: str) -> str:
    """``report`` with the answers of a form ("Pneumothorax: none.", "Effusion resolved.") as sentences say them."""
    return _RESOLVED.sub("is resolved", _ANSWER.sub(" is absent", report))


def _named(mentions: Sequence[Mention]) -> Iterator[tuple[str, str]]:
    return ((name, mention.status) for mention in mentions for name in mention.entry.names)


def positives(reports: Sequence[str]) -> np.ndarray:
    """Bool (reports, 14): which observations each report says are present or may be."""
    return np.array(
        [[status in POSITIVE for status in label_report(report).values()] for report in reports], dtype=bool
    )


def _f1(both: np.ndarray, said: np.ndarray) -> np.ndarray:
    """F1 of counts: true positives, and positives of both sides together; NaN where no side has any."""
    return np.divide(2 * both, said, out=np.full(np.shape(said), np.nan), where=np.asarray(said) > 0)


def observation_scores(generated: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """``chexpert_f1_14_*`` and ``chexpert_f1_5_*`` (of :data:`FIVE`): ``micro``, ``macro`` and ``example``; 0 to 1.

    Uncertain counts as present, as in F1-CheXbert (Smit et al. 2020; Miura et al. 2021), the usual measure of clinical
    efficacy: a report that says "may be pneumonia" speaks of it, and a reader acts on it. Micro: counts of all
    observations together. Macro: mean over the observations that a reference or a generated report has. Example: mean
    over the reports of which either side has one. NaN where nothing is left to average. (scikit-learn gives what is
    left out here the score 0.)

    Raises:
        ValueError: not as many generated reports as references, or none.
    """
    if len(generated) != len(references) or not references:
        raise ValueError(f"reports: {len(generated)} generated for {len(references)} references; give one each")
    results, targets = positives(generated), positives(references)
    scores: dict[str, float] = {}
    for names in (OBSERVATIONS, FIVE):
        columns = [OBSERVATIONS.index(name) for name in names]
        first, second = results[:, columns], targets[:, columns]
        both, said = (first & second).astype(float), first.astype(float) + second
        parts = {
            "micro": _f1(both.sum(keepdims=True), said.sum(keepdims=True)),
            "macro": _f1(both.sum(0), said.sum(0)),
            "example": _f1(both.sum(1), said.sum(1)),
        }
        for kind, values in parts.items():
            defined = values[~np.isnan(values)]
            scores[f"chexpert_f1_{len(names)}_{kind}"] = float(defined.mean()) if defined.size else float("nan")
    return scores
