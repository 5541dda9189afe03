"""Short phrases that name what an image's mask shows, from the attributes of its report; one template for all uses.

``"hypoechoic round nodule in the upper left part"``: words are the keys of :mod:`common.text.thyroid`, so
that synonyms give one phrase and images can share it. Where nothing is known the phrase is "thyroid nodule".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from common.text.thyroid import CHINESE, ENGLISH

PLAIN = "thyroid nodule"
TEMPLATE = "an ultrasound image of a {}"
ROWS, COLUMNS = ("upper", "middle", "lower"), ("left", "middle", "right")
LOOKS = ("small", "medium-sized", "large", "anechoic", "hypoechoic", "isoechoic", "hyperechoic")
SHAPES = ("taller-than-wide", "round", "wider-than-tall")
KEYS = {word: key for language in (ENGLISH, CHINESE) for key, words in language.items() for word in words}


def describe(attributes: Sequence[str]) -> str:
    """Phrase of one nodule from attribute words in any order; words that are no attribute are left out.

    "middle" is both a row and a column: with one more place it is the other, alone it is the column.
    """
    keys = [KEYS.get(word.lower(), word.lower()) for word in attributes]
    looks = [key for key in (*LOOKS, *SHAPES) if key in keys]
    row = next((key for key in ROWS if key in keys and key != "middle"), None)
    column = next((key for key in COLUMNS if key in keys and key != "middle"), None)
    if "middle" in keys and column is None:
        column = "middle"
    elif "middle" in keys and row is None:
        row = "middle"
    position = " ".join(key for key in (row, column) if key)
    return " ".join([*looks, "nodule"]) + (f" in the {position} part" if position else "")


def phrase_of(case: dict) -> str:
    """Phrase of an image: ``phrase``, or from its own ``sentences``, nodules joined by "and"; else the plain one."""
    if case.get("phrase"):
        return str(case["phrase"])
    described = [describe(s["attributes"]) for s in case.get("sentences") or [] if s["about_image"] and s["attributes"]]
    return " and ".join(dict.fromkeys(described)) or PLAIN


def prompt_of(case: Mapping) -> str:
    """Prompt of a case: ``prompt``, or the template around ``phrase``, by default "thyroid nodule"."""
    return str(case["prompt"]) if "prompt" in case else TEMPLATE.format(case.get("phrase") or PLAIN)


def with_phrases(cases: Sequence[dict]) -> list[dict]:
    """``cases`` with ``phrase`` and, by the template, ``prompt``."""
    return [{**case, "phrase": phrase_of(case), "prompt": TEMPLATE.format(phrase_of(case))} for case in cases]
