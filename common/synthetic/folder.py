"""A folder of synthetic data, made where no data set is given, and never mixed with data of other options."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from ignite import distributed as idist

from common.engine.distributed import is_first


def existing_or_made(dataset_dir: str | None, synthetic_dir: str, options: dict, write: Callable[[str], None]) -> str:
    """What :func:`dataset_or_synthetic` says, for any data with ``options`` in ``options.json``."""
    if dataset_dir is not None:
        if not os.path.isdir(dataset_dir):
            raise FileNotFoundError(f"dataset_dir: no folder {dataset_dir!r}; pass an existing one, or leave it out")
        return dataset_dir
    if not os.path.isdir(synthetic_dir) and is_first():
        write(synthetic_dir)
    idist.barrier()
    made = json.loads((Path(synthetic_dir) / "options.json").read_text())
    if made != options:
        changed = {key: made.get(key) for key, value in options.items() if made.get(key) != value}
        raise ValueError(
            f"synthetic data: {synthetic_dir!r} was made with {changed}; remove the folder to make it anew"
        )
    return synthetic_dir
