"""Sentences of a thyroid ultrasound report, in English and in Chinese, from the attributes of nodules.

A sentence states ``mention``: some of a nodule's attributes, the same words whichever image it is about.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ENGLISH = {
    "left": ["left"], "middle": ["middle", "central"], "right": ["right"],
    "upper": ["upper", "superior"], "lower": ["lower", "inferior"],
    "anechoic": ["anechoic", "echo-free"], "hypoechoic": ["hypoechoic", "low-echo"],
    "isoechoic": ["isoechoic", "equal-echo"], "hyperechoic": ["hyperechoic", "high-echo"],
    "taller-than-wide": ["taller-than-wide", "upright"], "round": ["round", "rounded"],
    "wider-than-tall": ["wider-than-tall", "oval"],
}  # fmt: skip
CHINESE = {
    "left": ["左侧"], "middle": ["中部", "中央"], "right": ["右侧"],
    "upper": ["上份", "上部"], "lower": ["下份", "下部"],
    "anechoic": ["无回声"], "hypoechoic": ["低回声"], "isoechoic": ["等回声"], "hyperechoic": ["高回声", "强回声"],
    "taller-than-wide": ["纵横比大于1", "纵向生长"], "round": ["圆形", "类圆形"], "wider-than-tall": ["椭圆形", "横向生长"],
}  # fmt: skip
DETAILS = {
    "en": {
        "solid": "solid", "mixed": "partly cystic", "cystic": "cystic",
        "smooth": "with a smooth margin", "ill-defined": "with an ill-defined margin", "irregular": "with an irregular margin",
        "none": "", "punctate": "and punctate echogenic foci", "macrocalcification": "and a coarse calcification",
        "comet-tail": "and comet-tail artifacts",
    },
    "zh": {
        "solid": "实性", "mixed": "囊实性", "cystic": "囊性",
        "smooth": "边界清晰", "ill-defined": "边界模糊", "irregular": "边缘不规则",
        "none": "", "punctate": "内见点状强光斑", "macrocalcification": "内见粗大钙化", "comet-tail": "内见彗星尾征",
    },
}  # fmt: skip
TEMPLATES = {
    "en": [
        "{ordinal} {echogenicity} {shape} nodule is seen in the {position} part {detail}.",
        "In the {position} region there is {a_shape} {echogenicity} {composition} nodule {detail}.",
        "{ordinal} {composition} nodule, {echogenicity} and {shape}, lies in the {position} portion {detail}.",
        "The {position} portion contains {a_echogenicity} nodule of {shape} shape {detail}.",
    ],
    "zh": [
        "{position}可见{ordinal}{echogenicity}结节，{shape}，{detail}。",
        "{ordinal}{composition}结节位于{position}，呈{echogenicity}，形态{shape}，{detail}。",
        "{position}探及{shape}{echogenicity}团块，{detail}。",
    ],
}
NEGATIONS = {
    "en": "No {echogenicity} {shape} nodule is seen in the {position} part.",
    "zh": "{position}未见{shape}{echogenicity}结节。",
}
ORDINALS = {
    "en": ["A first", "A second", "One", "Another", "A further"],
    "zh": ["一个", "另一", "第一个", "第二个", ""],
}
FILLER = {
    "en": [
        "The left lobe is normal in size.", "The right lobe is slightly enlarged.",
        "The gland parenchyma is homogeneous in the upper and lower poles.", "The isthmus is not thickened.",
        "No enlarged lymph node is seen in the left neck.", "Lymph nodes of the right neck are oval with a hilum.",
        "Colour Doppler shows no increased flow.", "The trachea is in the middle.",
        "The left carotid artery is patent.", "Follow-up in 12 months is advised.",
    ],
    "zh": [
        "甲状腺左叶大小正常。", "甲状腺右叶稍增大。", "腺体回声均匀。", "峡部不厚。", "左侧颈部未见肿大淋巴结。",
        "右侧颈部淋巴结呈椭圆形，可见淋巴门。", "彩色多普勒未见血流增多。", "气管居中。", "左侧颈动脉通畅。", "建议12个月后复查。",
    ],
}  # fmt: skip


@dataclass(frozen=True)
class Nodule:
    """One nodule: centre (x, y) and mean radius in fractions of the image; the rest in the terms of ACR TI-RADS."""

    x: float
    y: float
    radius: float
    column: str  # left, middle, right
    row: str  # upper, lower
    composition: str  # solid, mixed, cystic
    echogenicity: str
    shape: str
    margin: str  # smooth, ill-defined, irregular
    foci: str  # none, punctate, macrocalcification, comet-tail


def position(nodule: Nodule) -> str:
    """Row and column as one phrase of keys: ``"upper left"``."""
    return f"{nodule.row} {nodule.column}"


def nodule_sentence(
    mention: dict[str, str], nodule: Nodule, rng: np.random.Generator, *, language: str, negated: bool = False
) -> tuple[str, list[str]]:
    """Write a sentence; return it and the attribute words in it.

    Args:
        mention: stated attributes: ``row`` and/or ``column``, ``echogenicity``, ``shape``; a missing one is left out.
        nodule: gives composition, margin and foci, details that do not tell nodules apart.
    """
    synonyms = ENGLISH if language == "en" else CHINESE
    chosen = {key: str(rng.choice(synonyms[value])) for key, value in mention.items()}
    words = [chosen[key] for key in ("row", "column") if key in chosen]
    fields = {
        "position": " ".join(words) if language == "en" else "".join(reversed(words)),
        "echogenicity": chosen.get("echogenicity", ""),
        "shape": chosen.get("shape", ""),
        "a_shape": _article(chosen.get("shape") or chosen.get("echogenicity") or DETAILS["en"][nodule.composition]),
        "a_echogenicity": _article(chosen.get("echogenicity", "")),
        "composition": DETAILS[language][nodule.composition],
        "detail": _detail(nodule, language),
        "ordinal": str(rng.choice(ORDINALS[language])),
    }
    fields["a_shape"] = f"{fields['a_shape']} {fields['shape']}".strip()
    fields["a_echogenicity"] = f"{fields['a_echogenicity']} {fields['echogenicity']}".strip()
    template = NEGATIONS[language] if negated else str(rng.choice(_usable(mention, language)))
    return _tidy(template.format(**fields), language), list(chosen.values())


def _usable(mention: dict[str, str], language: str) -> list[str]:
    """Templates whose sentence stays grammatical when an attribute is not mentioned."""
    if {"echogenicity", "shape"} <= mention.keys():
        return TEMPLATES[language]
    return TEMPLATES[language][:2] if language == "en" else TEMPLATES[language][2:]


def filler(rng: np.random.Generator, count: int, *, language: str) -> list[str]:
    """Choose ``count`` sentences on gland, neck and vessels: about no nodule, with words such as "left"."""
    return [str(sentence) for sentence in rng.choice(FILLER[language], size=count, replace=False)]


def _detail(nodule: Nodule, language: str) -> str:
    parts = [DETAILS[language][nodule.margin], DETAILS[language][nodule.foci]]
    return (" " if language == "en" else "，").join(part for part in parts if part)


def _article(word: str) -> str:
    return "an" if word[:1] in tuple("aeiou") else "a"


def _tidy(sentence: str, language: str) -> str:
    return " ".join(sentence.split()).replace(" ,", ",").replace(" .", ".") if language == "en" else sentence
