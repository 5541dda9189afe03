"""The first thing that each config does."""

from __future__ import annotations

from common.cli.given import require_weights
from common.cli.overrides import check_command_line
from common.engine.distributed import require_one_process, start
from common.engine.memory import keep_freed_blocks
from common.engine.seeds import set_seed


def begin(
    *,
    weights: str | None = None,
    trained_by: str = "train.json",
    seed: int | None = None,
    deterministic: bool = False,
    alone: str | None = None,
) -> None:
    """Check the command line, keep freed memory, join the other processes, seed.

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
    keep_freed_blocks()
    if alone is not None:
        require_one_process(what=alone)
    start()
    if weights is not None:
        require_weights(weights, trained_by=trained_by)
    if seed is not None:
        set_seed(seed, deterministic=deterministic)
