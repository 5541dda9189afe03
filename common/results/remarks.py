"""What is said beside a generated report, on the page and in DICOM: what is doubtful, what the detector contradicts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def against(sentence: Mapping[str, Any], entry: Mapping[str, Any]) -> str:
    """That a sentence of ``entry`` is doubtful, and what the detector has against it; empty of nothing."""
    weak = {box.get("label") for box in entry.get("boxes") or ()}
    told = [
        f"the detector {'is not sure of' if label in weak else 'sees no'} {label.lower()}"
        for label in sentence.get("unseen", ())
    ]
    if sentence.get("doubtful"):
        told.append(f"doubtful: {sentence['right']:.0%} of such sentences are right")
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
