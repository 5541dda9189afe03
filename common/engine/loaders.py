"""Batches of a data set, shared out over the processes where there are several."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator
from typing import Any

import torch
from ignite import distributed as idist
from monai.data import CacheDataset, DataLoader
from monai.data.utils import worker_init_fn
from torch.utils.data import DistributedSampler

from common.engine.stopping import outlive

logger = logging.getLogger(__name__)
WORKERS = 4  # that feed one GPU
MANY = 10_000  # cases that are not kept in memory, which workers load beside a CPU, too
NAMES = ("case", "study", "report_id", "source", "boxes")  # what the readers of data sets tell of a case


class ResumableSampler(DistributedSampler):
    """A random order of the cases, a function of seed and epoch alone, without the first ``start`` of this process."""

    def __init__(self, dataset: Any, *, seed: int) -> None:
        super().__init__(dataset, num_replicas=idist.get_world_size(), rank=idist.get_rank(), seed=seed)
        self.start = 0

    def __iter__(self) -> Iterator[int]:
        return itertools.islice(super().__iter__(), self.start, None)


def training_loader(
    *,
    dataset: Any,
    batch_size: int,
    seed: int,
    device: torch.device | str,
    num_workers: int | None = None,
    collate_fn: Callable | None = None,
) -> DataLoader:
    """Batches in random order, all of ``batch_size``; each process has its part of every epoch.

    Args:
        num_workers: processes that load; None: :data:`WORKERS` for a GPU, or where more than :data:`MANY` cases are
            not kept in memory; else none.

    Raises:
        ValueError: the cases fill no batch. A list that another program made (MONAI Label), whose cases have no names,
            makes the batch smaller instead.
    """
    processes = idist.get_world_size()
    per_process = len(dataset) // processes
    if per_process < batch_size:
        if not per_process or _are_named(dataset):
            on_each = f" on each of {processes} processes" if processes > 1 else ""
            raise ValueError(
                f"batch_size: {len(dataset)} training cases fill no batch of {batch_size}{on_each}; "
                "pass a smaller --batch_size"
            )
        logger.warning(
            "batch_size: %d training cases fill no batch of %d; it becomes %d", per_process, batch_size, per_process
        )
        batch_size = per_process
    options = {"sampler": ResumableSampler(dataset, seed=seed), "drop_last": True}
    return _loader(dataset, batch_size, num_workers, device, collate_fn, options)


def evaluation_loader(
    *,
    dataset: Any,
    batch_size: int,
    num_workers: int | None = None,
    device: torch.device | str = "cpu",
    collate_fn: Callable | None = None,
    repeat: bool = False,
) -> DataLoader:
    """Batches in the data set's order; of several processes each has every n-th case.

    Args:
        num_workers: as those of :func:`training_loader`.
        repeat: a process that would have no case has the last one, which is written once: inference.

    Raises:
        ValueError: there are fewer cases than processes, and they are not repeated.
    """
    rank, processes, count = idist.get_rank(), idist.get_world_size(), len(dataset)
    if count < processes and not repeat:
        raise ValueError(f"nproc_per_node: {processes} processes for {count} cases; start {max(count, 1)} at most")
    indices = range(rank, count, processes) if rank < count else range(count - 1, count)
    return _loader(dataset, batch_size, num_workers, device, collate_fn, {"sampler": indices} if processes > 1 else {})


def _loader(
    dataset: Any,
    batch_size: int,
    num_workers: int | None,
    device: torch.device | str,
    collate_fn: Callable | None,
    options: dict[str, Any],
) -> DataLoader:
    pinned = torch.device(device).type == "cuda"
    many = len(dataset) > MANY and not isinstance(dataset, CacheDataset)
    workers = num_workers if num_workers is not None else WORKERS if pinned or many else 0
    if workers:
        options = {**options, "persistent_workers": True, "prefetch_factor": 4, "worker_init_fn": _start_worker}
    collate = {} if collate_fn is None else {"collate_fn": collate_fn}
    return DataLoader(dataset, batch_size=batch_size, num_workers=workers, pin_memory=pinned, **collate, **options)


def _start_worker(number: int) -> None:
    worker_init_fn(number)
    outlive()


def _are_named(dataset: Any) -> bool:
    cases = getattr(dataset, "data", None) or [{"case": ""}]
    return any(name in case for case in cases[:1] for name in NAMES)
