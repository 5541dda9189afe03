"""Tensors written to a file so that what the disk refuses is told as it is."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch


def save_tensors(content: Any, path: str | Path) -> None:
    """``torch.save``, which by itself hides the disk's error behind one of its own.

    Raises:
        OSError: the disk is full, or cannot be written.
    """
    try:
        with open(path, "wb") as file:
            torch.save(content, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from None
        raise
