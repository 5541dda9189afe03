"""What is said beside a generated report where the detector contradicts it, on the page and in DICOM."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def against(sentence: Mapping[str, Any], entry: Mapping[str, Any]) -> str:
    """What the detector has against a sentence of ``entry``; empty where it has nothing."""
    weak = {box.get("label") for box in entry.get("boxes") or ()}
    told = [
        f"the detector {'is not sure of' if label in weak else 'sees no'} {label.lower()}"
        for label in sentence.get("unseen", ())
    ]
    told += [f"the detector sees {label.lower()}" for label in sentence.get("denied_but_seen", ())]
    return "; ".join(told)


def unreported(entry: Mapping[str, Any]) -> str:
    """What the detector sees and the report of ``entry`` leaves out; empty of nothing."""
    names = ", ".join(entry.get("unreported") or ()).lower()
    return f"The detector sees what the report does not speak of: {names}." if names else ""


def remarks(entry: Mapping[str, Any]) -> list[str]:
    """All of it in sentences, and that the image is unlike the training images."""
    sentences = [(sentence["text"], against(sentence, entry)) for sentence in entry.get("sentences", ())]
    lines = [f'"{text}": {told}.' for text, told in sentences if told]
    return [line for line in (*lines, unreported(entry), entry.get("warning")) if line]
