"""Files of the cache on disk: what they are named by, and what they hold: tensors, numbers and texts alone."""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Hashable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import monai
import numpy as np
import PIL
import torch
from monai.data import MetaTensor
from monai.data.utils import pickle_hashing

from common.images.dicom import source_of

LONGEST_PATH = 4096  # characters
ARRAY = "\0array"  # key of an array of numpy in a file of the cache


def recipe_of(transforms: Iterable[object]) -> bytes:
    """What a case is made by, the same in all processes: ``transforms``, and the code of this package and of theirs, so
    that no file outlives what made it.
    """
    transforms = list(transforms)
    digest = hashlib.sha256(pickle_hashing(transforms) + f"{monai.__version__} {PIL.__version__}".encode())
    packages = {"common", *(type(part).__module__.partition(".")[0] for part in transforms)} - {"monai", "builtins"}
    for folder in (path for name in sorted(packages) for path in getattr(sys.modules.get(name), "__path__", ())):
        for file in sorted(Path(folder).rglob("*.py")):
            digest.update(file.read_bytes())
    return digest.digest()


def file_of(folder: Path, item: Mapping[Hashable, Any], recipe: bytes) -> Path:
    """Where the cache keeps ``item``: named by its content, size and time of its files, and ``recipe``."""
    digest = hashlib.sha256(recipe + pickle_hashing(item))
    for path in sorted(_paths_in(item)):
        known = os.stat(path)
        digest.update(f"{path} {known.st_size} {known.st_mtime_ns}".encode())
    name = digest.hexdigest()[:40]
    return folder / name[:2] / f"{name}.pt"


def _paths_in(value: object) -> Iterator[str]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for part in value:
            yield from _paths_in(part)
    elif isinstance(value, str) and len(value) < LONGEST_PATH and os.path.isfile(source_of(value)[0]):
        yield source_of(value)[0]


def storable(value: Any) -> Any:
    """``value`` of tensors, numbers and texts alone, which are read without running anything; see :func:`restored`."""
    if isinstance(value, Mapping):
        return {key: storable(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(storable(part) for part in value)
    if isinstance(value, np.ndarray):
        return {ARRAY: torch.from_numpy(value.copy())}
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, torch.Tensor):
        plain = value.as_tensor() if isinstance(value, MetaTensor) else value
        looks_into_more = plain.untyped_storage().nbytes() > plain.element_size() * plain.nelement()
        return plain.clone() if looks_into_more else plain  # all that a view looks into would be stored
    return value


def restored(value: Any) -> Any:
    """What :func:`storable` was given, but for the metadata of MONAI's tensors."""
    if isinstance(value, dict):
        if value.keys() == {ARRAY}:
            return value[ARRAY].numpy()
        return {key: restored(part) for key, part in value.items()}
    return type(value)(map(restored, value)) if isinstance(value, list | tuple) else value
