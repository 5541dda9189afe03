"""The first thing that each config does."""

from __future__ import annotations

import torch

from common.cli.check import check_command_line
from common.cli.given import require_file
from common.engine.distributed import require_one_process, start
from common.engine.state import set_seed


def begin(
    *,
    weights: str | None = None,
    trained_by: str = "train.json",
    seed: int | None = None,
    deterministic: bool = False,
    alone: str | None = None,
) -> None:
    """Check the command line, join the other processes, seed.

    Args:
        weights: a file that must be there; ``trained_by`` names the config that writes it.
        seed: None: nothing is drawn at random.
        alone: what is the work of one process.

    Raises:
        SystemExit: an override that names nothing.
        FileNotFoundError: no file ``weights``.
        ValueError: several processes do what is the work of one.
    """
    check_command_line()
    if alone is not None:
        require_one_process(what=alone)
    start()
    if weights is not None:
        require_weights(weights, trained_by=trained_by)
    if seed is not None:
        set_seed(seed, deterministic=deterministic)


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
