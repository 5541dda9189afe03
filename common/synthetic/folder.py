"""A folder of synthetic data, made where no data set is given, and never mixed with data of other options."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

from ignite import distributed as idist

from common.engine.distributed import is_first


def existing_or_made(dataset_dir: str | None, synthetic_dir: str, options: dict, write: Callable[[str], None]) -> str:
    """``dataset_dir``; without it ``synthetic_dir``, which ``write`` fills where it is not there yet.

    Args:
        options: of the synthetic data, as ``write`` leaves them in ``options.json``.

    Raises:
        FileNotFoundError: no such ``dataset_dir``.
        ValueError: ``synthetic_dir`` was made with other options.
    """
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
