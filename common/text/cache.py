"""A dictionary that keeps what was used last: results of texts must not fill a server's memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

_MISSING = object()
Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class LRUCache(Generic[Key, Value]):
    """At most ``most`` values; the one that was not asked for longest goes first. Threads may share it."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.values: OrderedDict[Key, Value] = OrderedDict()

    def __len__(self) -> int:
        return len(self.values)

    def get(self, key: Key, make: Callable[[], Value]) -> Value:
        """The value of ``key``, made where it is not kept."""
        known = self.values.pop(key, _MISSING)
        value: Value = make() if known is _MISSING else known  # type: ignore[assignment]
        self.values[key] = value
        if len(self.values) > self.most:
            self.values.popitem(last=False)
        return value
