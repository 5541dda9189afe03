"""Whether a generated sentence is right: what it states and denies against what the reference report does."""

from __future__ import annotations

from collections.abc import Mapping

from common.metrics.assertion import ABSENT, PRESENT
from common.metrics.entities import read_entities
from common.metrics.entity_status import FINDINGS, status_mentions, statuses
from common.metrics.observations import NO_FINDING, NOT_NAMED, label_report


def said_of(text: str, organ: str) -> dict[str, str]:
    """What ``text`` says of each observation (of the chest: CheXpert's) or entity: "present", "uncertain", "absent"."""
    if organ == "chest":
        told = label_report(text).items()
        return {name: status for name, status in told if status != NOT_NAMED and name != NO_FINDING}
    return statuses(text, read_entities(organ))


def claims_of(sentence: str, organ: str) -> dict[str, str]:
    """What of :func:`said_of` is to be borne out; of a denial, the place and the looks that it names are none of it."""
    said = said_of(sentence, organ)
    if organ == "chest" or all(status != ABSENT for _, status in status_mentions(sentence, read_entities(organ))):
        return said
    return {name: said[name] for name in said if name in FINDINGS}


def is_right(said: Mapping[str, str], reference: Mapping[str, str]) -> bool | None:
    """Whether all that is ``said`` fits the ``reference`` report; None where nothing is said.

    A statement, sure or not, is right if the reference makes it, too, surely or not; a denial, unless the reference
    states what it denies.
    """
    if not said:
        return None
    return all(
        reference.get(name) != PRESENT if status == ABSENT else reference.get(name, ABSENT) != ABSENT
        for name, status in said.items()
    )
