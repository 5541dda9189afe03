"""Names that requests give to images, labels and tags."""

from __future__ import annotations

LONGEST = 200


def is_name(value: object) -> bool:
    """Whether ``value`` is a text that leads into no folder and out of none."""
    if not isinstance(value, str) or not 0 < len(value) <= LONGEST:
        return False
    return not any(mark in value for mark in ("/", "\\", "\0", "..")) and set(value) != {"."}
