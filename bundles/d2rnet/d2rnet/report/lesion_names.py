"""Lesions that an English report of a chest X-ray names, by the labels of VinDr-CXR's boxes."""

from __future__ import annotations

import re
from itertools import pairwise
from typing import NamedTuple

from common.metrics.assertion import ABSENT
from common.metrics.entity_status import Claim, phrase_claims
from common.metrics.observations import in_sentences
from common.text.encoding import split_sentences

_ENLARGED = r"is (?:not |no longer )?(?:\w+ )?(?:enlarged|dilated)"
PHRASES = {  # of VinDr-CXR's local labels, as English reports put them; other labels are not counted
    "Aortic enlargement": rf"aort\w*(?: knob)? {_ENLARGED}|enlarge\w* of the aort|(?:dilated|enlarged) aort",
    "Atelectasis": r"atelecta",
    "Calcification": r"calcifi|granuloma",
    "Cardiomegaly": rf"cardiomegaly|heart(?: size)? {_ENLARGED}|enlarged (?:heart|cardiac)|cardiac enlargement",
    "Clavicle fracture": r"clavic\w* fracture|fracture\w* of the (left |right )?clavic",
    "Consolidation": r"consolidat",
    "Edema": r"o?edema",
    "Emphysema": r"emphysem",
    "Enlarged PA": r"enlarged pulmonary arter",
    "ILD": r"interstitial (lung disease|marking|change)",
    "Infiltration": r"infiltrat",
    "Lung Opacity": r"opaci",
    "Lung cavity": r"cavit",
    "Lung cyst": r"\bcyst",
    "Mediastinal shift": r"mediastin\w* (is )?shift|shift of the mediastin",
    "Nodule/Mass": r"nodul|\bmass(?:es)?\b",
    "Pleural effusion": r"effusion",
    "Pleural thickening": r"pleural thickening",
    "Pneumothorax": r"pneumothora",
    "Pulmonary fibrosis": r"fibro",
    "Rib fracture": r"rib fracture|fracture\w* of the (?:(?!with|and|no)\w+ ){0,3}rib",
}
SIDES = ("left", "right")
_PARTS = re.compile(r"\b(?:no|not|nor|without|but)\b|[;,]")  # a sentence that denies something names sides part by part


class Named(NamedTuple):
    """A lesion of a report or of a box: one of the detector's labels, and "left", "right", or "" (of the patient)."""

    label: str
    side: str


def side_of(middle: float, width: float) -> str:
    """Side of the patient of a box whose middle lies at ``middle`` of ``width`` pixels: right is the image's left."""
    return "right" if middle < width / 2 else "left"


def lesion_claims(sentence: str) -> list[Claim]:
    """Each mention of a lesion of :data:`PHRASES` in an English sentence: present, uncertain or absent."""
    return phrase_claims(sentence, PHRASES)


def named_lesions(report: str) -> set[Named]:
    """Lesions that ``report``, in English, states or holds possible, with the side that is named for each."""
    results = set()
    for start, end in split_sentences(report):
        sentence = in_sentences(report[start:end]).lower()
        claims = lesion_claims(report[start:end])
        denies = any(claim.status == ABSENT for claim in claims)
        cuts = [0, *(match.end() for match in _PARTS.finditer(sentence) if denies), len(sentence)]
        for claim in (claim for claim in claims if claim.status != ABSENT):
            part = next(sentence[low:high] for low, high in pairwise(cuts) if claim.start < high)
            sides = [side for side in SIDES if re.search(rf"\b{side}\b", part)] or [""]
            results |= {Named(claim.name, side) for side in sides}
    return results
