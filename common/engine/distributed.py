"""One process or several of torchrun, by the same configs: start and end, parallel modules, results of all ranks."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
from ignite import distributed as idist
from ignite.engine import Engine, Events
from torch import distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel

Item = TypeVar("Item")
WAIT = timedelta(days=1)  # a rank may pre-train or read a data set while the others wait; torchrun ends them if it dies


def current_device() -> torch.device:
    """The GPU of this rank, or the first one; the CPU where there is none."""
    rank = os.environ.get("LOCAL_RANK", "0")
    return torch.device(f"cuda:{rank}" if torch.cuda.is_available() else "cpu")


def bfloat16_is_fast(device: torch.device | str) -> bool:
    """Whether ``device`` multiplies bfloat16 itself; a CPU that emulates it takes 30 times as long as in float32."""
    if torch.device(device).type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    known = torch.cpu.get_capabilities()
    return any(known.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def start() -> None:
    """Join the other processes of torchrun, nccl on GPUs, gloo on CPUs; rank 0 alone logs progress. Else do nothing."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1 or dist.is_initialized():
        return
    device = current_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=WAIT)
    logging.disable(logging.INFO if dist.get_rank() > 0 else logging.NOTSET)


def finish() -> None:
    """Leave the group that :func:`start` joined, after all have come here."""
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()
        time.sleep(0.5)  # a rank that ends while another still closes its sockets ends it by a signal


def require_one_process(*, what: str) -> None:
    """Refuse several processes.

    Raises:
        ValueError: there are several.
    """
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    if processes > 1:
        raise ValueError(f"nproc_per_node: {processes} processes; {what} is the work of one, start it without torchrun")


def is_first() -> bool:
    """Whether this process writes what all of them share."""
    return idist.get_rank() == 0


def parallel(module: nn.Module, *, find_unused_parameters: bool = False) -> nn.Module:
    """``module``, whose gradients are averaged over the processes, where there are several."""
    if not dist.is_initialized():
        return module
    device = next(module.parameters()).device
    devices = [device] if device.type == "cuda" else None
    return DistributedDataParallel(module, device_ids=devices, find_unused_parameters=find_unused_parameters)


def gather(items: Sequence[Item]) -> list[Item]:
    """``items`` of every process, rank 0's first; any objects, so that no text is cut at a separator."""
    if idist.get_world_size() == 1:
        return list(items)
    parts: list[Any] = [None] * idist.get_world_size()
    dist.all_gather_object(parts, list(items))
    return [item for part in parts for item in part]


def data_order(count: int) -> list[int]:
    """Where each case of the data set stands among the :func:`gather` ed ones, of which this process had ``count``.

    A rank gets every n-th case (:func:`common.engine.loaders.evaluation_loader`), so the cases of all ranks take turns.
    """
    counts = gather([count])
    ends = [sum(counts[:rank]) for rank in range(len(counts))]
    turns = [(position, rank) for rank, current in enumerate(counts) for position in range(current)]
    return [ends[rank] + position for position, rank in sorted(turns)]


def average_buffers(module: nn.Module) -> None:
    """Give the floating buffers of ``module`` (running means of norms) their mean over the processes."""
    if not dist.is_initialized():
        return
    for buffer in module.buffers():
        if buffer.is_floating_point():
            dist.all_reduce(buffer)
            buffer.div_(dist.get_world_size())


class EqualBuffers:
    """Handler of a trainer: :func:`average_buffers` of ``network`` as an epoch ends, before it is validated."""

    def __init__(self, *, network: nn.Module) -> None:
        self.network = network

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.EPOCH_COMPLETED, lambda _: average_buffers(self.network))
