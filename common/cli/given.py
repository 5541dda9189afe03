"""Files and texts that a config id names: found, or refused in one line."""

from __future__ import annotations

import importlib
import os
from types import ModuleType

import torch

from common.cli.reading import read_text


def require_file(path: str, *, id: str, remedy: str) -> str:
    """Return ``path``.

    Raises:
        FileNotFoundError: ``path`` is no file; the message names it, its config ``id`` and the ``remedy``.
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"{id}: no file {path!r}; {remedy}")
    return path


def require_weights(path: str, *, trained_by: str = "train.json", id: str = "weights") -> str:
    """Return ``path``.

    Raises:
        FileNotFoundError: no such file; the message names the config that writes it.
        ValueError: it holds no weights.
    """
    require_file(path, id=id, remedy=f"run {trained_by} first, or pass --{id} FILE")
    try:
        torch.load(path, weights_only=True, map_location="meta")
    except Exception as error:  # whatever pickle, zip and torch make of other bytes
        reason = type(error).__name__
        raise ValueError(
            f"{id}: {path!r} is no file of weights, is damaged, or holds code, which is not run ({reason}); pass the "
            f"model.pt of {trained_by}"
        ) from error
    return path


def text_or_file(text: str | None, *, id: str) -> str | None:
    """``text``; where it ends in ".txt", what that file holds: texts that a shell or MONAI would change go there.

    Raises:
        FileNotFoundError: it ends in ".txt" and is no file.
    """
    if text is None or not text.endswith(".txt"):
        return text
    path = require_file(text, id=id, remedy="pass the text itself or an existing .txt file")
    return read_text(path, what=id)


def import_package(name: str, *, package: str, extra: str | None) -> ModuleType:
    """The module ``name`` of an optional ``package``, which the ``extra`` of this project installs, too.

    Raises:
        ValueError: it is not installed; the message says what to install.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name != name:  # it is there, and lacks something itself
            raise
        remedy = "" if extra is None else f", or this project with [{extra}]"
        raise ValueError(f"{package} is not installed, which this needs; pip install {package}{remedy}") from error
