"""Metrics of D2R-Net's evaluation: those of reports, and whether the lesions that are named are those of the boxes."""

from __future__ import annotations

import re
from typing import NamedTuple

import torch

from common.metrics.reports import ReportMetrics
from common.text.encoding import split_sentences

PHRASES = {  # of VinDr-CXR's local labels, as English reports put them; other labels are not counted
    "Aortic enlargement": r"aort\w*( knob)? is (enlarged|dilated)|enlarge\w* of the aort|(dilated|enlarged) aort",
    "Atelectasis": r"atelecta",
    "Calcification": r"calcifi|granuloma",
    "Cardiomegaly": r"cardiomegaly|heart( size)? is (\w+ )?enlarged|enlarged (heart|cardiac)|cardiac enlargement",
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
    "Nodule/Mass": r"nodul|\bmass",
    "Pleural effusion": r"effusion",
    "Pleural thickening": r"pleural thickening",
    "Pneumothorax": r"pneumothora",
    "Pulmonary fibrosis": r"fibro",
    "Rib fracture": r"rib fracture|fracture\w* of the (\w+ )*rib",
}
DENIED = re.compile(r"\b(no|not|without|clear|normal|negative|free)\b")


class Named(NamedTuple):
    """A lesion of a report or of a box: one of the detector's labels, and "left", "right", or "" (of the patient)."""

    label: str
    side: str


def side_of(middle: float, width: float) -> str:
    """Side of the patient of a box whose middle lies at ``middle`` of ``width`` pixels: right is the image's left."""
    return "right" if middle < width / 2 else "left"


def named_lesions(report: str) -> set[Named]:
    """Lesions that ``report``, in English, states; a sentence that denies anything states nothing."""
    results = set()
    for start, end in split_sentences(report):
        sentence = report[start:end].lower()
        if not DENIED.search(sentence):
            sides = [side for side in ("left", "right") if re.search(rf"\b{side}\b", sentence)] or [""]
            present = [label for label, phrase in PHRASES.items() if re.search(phrase, sentence)]
            results |= {Named(label, side) for label in present for side in sides}
    return results


class LesionMetrics(ReportMetrics):
    """:class:`common.metrics.reports.ReportMetrics` and ``lesion_precision``, ``lesion_recall``, ``lesion_f1``,
    ``lesion_side``, where studies have labelled boxes.

    A label counts once a study; it is right where a box has it, whatever the side. ``lesion_side`` is the share of
    right labels with a side, whose side is that of a box with this label.
    """

    def numbers(self, item: dict) -> dict[str, float]:
        boxed = {Named(*lesion.split(":", 1)[::-1]) for lesion in item["lesions"].split(";") if lesion}
        boxed = {lesion for lesion in boxed if lesion.label in PHRASES}
        stated = named_lesions(item["text"])
        names, true = ({lesion.label for lesion in lesions} for lesions in (stated, boxed))
        sided = {lesion for lesion in stated if lesion.side and lesion.label in true}
        counts = {"lesions_named": len(names), "lesions_boxed": len(true), "lesions_right": len(names & true)}
        counts |= {"sides_named": len(sided), "sides_right": len(sided & boxed)}
        return super().numbers(item) | {name: float(count) for name, count in counts.items()}

    def summary(self, columns: dict[str, torch.Tensor]) -> dict[str, float]:
        total = {name: float(values.sum()) for name, values in columns.items()}
        if not total["lesions_boxed"]:
            return {}
        precision = total["lesions_right"] / max(total["lesions_named"], 1)
        recall = total["lesions_right"] / total["lesions_boxed"]
        f1 = 2 * precision * recall / (precision + recall) if total["lesions_right"] else 0.0
        side = total["sides_right"] / max(total["sides_named"], 1)
        return {"lesion_precision": precision, "lesion_recall": recall, "lesion_f1": f1, "lesion_side": side}
