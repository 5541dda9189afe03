"""Names that requests give to images, labels, tags and files."""

from __future__ import annotations

LONGEST = 200  # bytes; a folder holds 255, with what is added to a name


def is_name(value: object) -> bool:
    """Whether ``value`` is a text that leads into no folder and out of none, and that every file system holds."""
    if not isinstance(value, str) or not value or value != value.strip() or value.startswith("."):
        return False
    if any(mark in value for mark in ("/", "\\", "..")) or has_control(value):
        return False
    return is_encodable(value) and len(value.encode()) <= LONGEST


def has_control(text: str) -> bool:
    """Whether ``text`` holds a character that controls: a line's end, NUL, ..."""
    return any(ord(character) < 32 or ord(character) == 127 for character in text)


def is_encodable(text: str) -> bool:
    """Whether ``text`` can be written in UTF-8, which half a surrogate pair cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
