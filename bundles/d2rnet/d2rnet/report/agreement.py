"""Where a generated report and the detector contradict each other: one of them is wrong, and a reader should look."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from common.metrics.assertion import ABSENT

from .lesion_names import PHRASES, lesion_claims

SURE = 0.5  # score from which on a box counts
ALIKE = {"Atelectasis", "Consolidation", "Edema", "ILD", "Infiltration", "Lung Opacity", "Pulmonary fibrosis"}


def mark_disagreements(entry: dict[str, Any], labels: Sequence[str]) -> None:
    """Add to an entry of ``predictions.json`` what its report and its boxes do not agree on.

    Each sentence gets ``stated``, lesions that it states. Of boxes with a score of :data:`SURE` it gets ``unseen``,
    what it states and no box shows, and ``denied_but_seen``, lesions that it denies and a box shows; the entry gets
    ``unreported``, lesions of boxes that no sentence speaks of. Opacities (:data:`ALIKE`) are one.
    English reports; lesions of ``lesion_names.PHRASES``.

    Args:
        labels: that the detector knows; of others it says nothing.
    """
    known = {_kind(label) for label in labels if label in PHRASES}
    boxed = {box["label"] for box in entry["boxes"] if box["label"] in PHRASES and box["score"] >= SURE}
    shown, spoken_of = {_kind(label) for label in boxed}, set[str]()
    for sentence in entry["sentences"]:
        claims = lesion_claims(sentence["text"])
        stated = {claim.name for claim in claims if claim.status != ABSENT}
        denied = {claim.name for claim in claims} - stated
        sentence["stated"] = sorted(stated)
        sentence["unseen"] = sorted(label for label in stated if _kind(label) in known - shown)
        sentence["denied_but_seen"] = sorted(label for label in denied if _kind(label) in shown)
        spoken_of |= {_kind(label) for label in stated | denied}
    entry["unreported"] = sorted(label for label in boxed if _kind(label) not in spoken_of)


def _kind(label: str) -> str:
    return "opacity" if label in ALIKE else label
