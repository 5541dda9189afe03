"""What a file says of the boxes in one image, checked: for the detector's reader, the reports', and the check."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

FREE = [-1, -1, -1, -1]  # a slot without a box, as published
SURE = 1.0  # score of a box that a person drew


class Boxed(NamedTuple):
    """An image with what its file says of it.

    Attributes:
        path: of the image.
        names: label of each box.
        boxes: float64 (M, 4).
        size: the image's width and height by the file; None where it tells none.
    """

    path: str
    names: list[str]
    boxes: np.ndarray
    size: tuple[int, int] | None = None


class EntryBoxes(NamedTuple):
    """Boxes of an entry, without free slots.

    Attributes:
        boxes: float64 (M, 4), as stored.
        labels: "" where there is none.
        scores: float64 (M,), 0 to 1.
    """

    boxes: np.ndarray
    labels: list[str]
    scores: np.ndarray


def boxes_of(entry: Mapping, *, where: str) -> EntryBoxes:
    """``boxes``, ``box_labels`` and ``scores`` of an entry; without labels they are "", without scores 1.

    Args:
        where: it stands, for messages: "study 'a'".

    Raises:
        ValueError: a list of another kind or length, a box that is no four numbers, a score outside 0 to 1.
    """
    boxes = _list("boxes", entry, where)
    labels = _list("box_labels", entry, where) or [""] * len(boxes)
    scores = [SURE] * len(boxes) if entry.get("scores") is None else _list("scores", entry, where)
    for name, values in (("box_labels", labels), ("scores", scores)):
        if len(values) != len(boxes):
            raise ValueError(
                f"boxes of {where}: {len(boxes)} boxes but {len(values)} {name}; give each box one, or leave {name} out"
            )
    kept = [index for index, box in enumerate(boxes) if box != FREE]
    corners = [four(boxes[index], where=where) for index in kept]
    marks = np.array([score_of(scores[index], where=where) for index in kept], dtype=np.float64)
    return EntryBoxes(array_of(corners), [_label(labels[index], where) for index in kept], marks)


def _list(name: str, entry: Mapping, where: str) -> list:
    """The list ``name`` of an entry; empty where it has none."""
    values = entry.get(name)
    if values is not None and not isinstance(values, list):
        raise ValueError(f"boxes of {where}: {name} is {values!r:.80}, no list; make it one with an item for each box")
    return values or []


def _label(value: object, where: str) -> str:
    if not isinstance(value, str):
        raise ValueError(f'boxes of {where}: the label {value!r:.80} is no text; correct the entry ("" where none is)')
    return value


def four(box: object, *, where: str) -> list[float]:
    """The four finite numbers of a box.

    Raises:
        ValueError: it holds something else.
    """
    values = [_number(value) for value in box] if isinstance(box, list | tuple) else []
    if len(values) != 4 or None in values:
        raise ValueError(f"boxes of {where}: {box!r:.80} are not four numbers each; correct the entry")
    numbers = [value for value in values if value is not None]
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"boxes of {where}: {box!r:.80} hold a value that is no number; correct the entry")
    return numbers


def score_of(value: object, *, where: str) -> float:
    """A detector's score.

    Raises:
        ValueError: it is no number from 0 to 1.
    """
    score = _number(value)
    if score is None or not 0 <= score <= 1:
        raise ValueError(f"boxes of {where}: the score {value!r:.80} is no number from 0 to 1; correct the entry")
    return score


def _number(value: object) -> float | None:
    """None: it is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def array_of(boxes: Sequence[Sequence[float]]) -> np.ndarray:
    """Boxes as float64 (M, 4)."""
    return np.array(boxes, dtype=np.float64).reshape(-1, 4)


def size_told(entry: Mapping) -> tuple[int, int] | None:
    """``width`` and ``height`` of an image, by its entry; None where they are no pixels."""
    width, height = (entry.get(side) for side in ("width", "height"))
    if isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0:
        return width, height
    return None


def require_size(size: Sequence[int], told: Sequence[int] | None, *, image: str, where: str) -> None:
    """Refuse boxes that are in the pixels of an image of another size.

    Args:
        size: width and height of the file ``image``.
        told: what its entry says; None: nothing.

    Raises:
        ValueError: with both sizes.
    """
    if told is not None and tuple(told) != tuple(size):
        raise ValueError(
            f"boxes of {where}: by its entry the image is {told[0]}x{told[1]} pixels, its file {image!r} is "
            f"{size[0]}x{size[1]}; restore that file, or scale the boxes and correct width and height"
        )
