"""Some hundred thousand cases in little memory: one array of bytes in place of millions of small objects."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, overload

import numpy as np

ARRAY = "\0array"  # the key of an array
LARGE = 10_000  # cases from which they are packed


def _array(value: Any) -> dict:
    """An array of numpy as JSON; its numbers come back bit by bit.

    Raises:
        TypeError: it is none.
    """
    if not isinstance(value, np.ndarray):
        raise TypeError(f"case: {type(value).__name__} cannot be packed; hand over arrays of numpy")
    return {ARRAY: [str(value.dtype), list(value.shape), value.ravel().tolist()]}


def _restored(entry: dict) -> Any:
    if entry.keys() != {ARRAY}:
        return entry
    kind, shape, numbers = entry[ARRAY]
    return np.array(numbers, dtype=kind).reshape(shape)


class Packed(Sequence[dict]):
    """Dictionaries of texts, numbers, lists and arrays of numpy, made anew each time they are asked for.

    A third of a list's memory, and shared with workers: a list of objects is copied page by page into each of
    them, since reading it counts references.
    """

    def __init__(self, cases: Iterable[dict]) -> None:
        parts = [json.dumps(case, ensure_ascii=False, default=_array).encode() for case in cases]
        self.ends = np.cumsum([len(part) for part in parts], dtype=np.int64)
        self.content = np.frombuffer(b"".join(parts), dtype=np.uint8)

    def __len__(self) -> int:
        return len(self.ends)

    @overload
    def __getitem__(self, index: int) -> dict: ...
    @overload
    def __getitem__(self, index: slice) -> list[dict]: ...
    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return [self._case(position) for position in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"case {index} of {len(self)}")
        return self._case(index % len(self))

    def __iter__(self) -> Iterator[dict]:
        return map(self._case, range(len(self)))

    def _case(self, index: int) -> dict:
        start = self.ends[index - 1] if index else 0
        return json.loads(self.content[start : self.ends[index]].tobytes(), object_hook=_restored)


def packed(cases: list[dict]) -> Sequence[dict]:
    """``cases``; packed where they are more than :data:`LARGE`."""
    return Packed(cases) if len(cases) > LARGE else cases
