"""Cases on their way to the network: what is not drawn at random is done once, and kept in memory or on disk."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import time
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import CacheDataset, Dataset, get_track_meta, set_track_meta
from monai.transforms import Compose, Randomizable, RandomizableTrait, Transform
from torch.utils.data import get_worker_info

from common.cli.atomic import whole_file
from common.engine.case_files import file_of, recipe_of, restored, storable
from common.engine.memory import free_memory
from common.engine.tensor_files import save_tensors

logger = logging.getLogger(__name__)
CHOICES = ("auto", "none", "memory", "disk")
SAMPLES = 4  # cases from which the size of all is estimated
FEW = 64  # cases that are kept in memory unasked
SHARE = 0.5  # of the free memory, or of the free disk, that a cache may fill
DAMAGED = 0.01  # of the cases that may be left out
GIGA = 1e9
Item = Mapping[Hashable, Any]


def cached(
    *,
    data: Sequence[Item],
    transform: Compose,
    cache: str = "auto",
    folder: str | None = None,
    limit_gb: float = 50.0,
    skip_damaged: bool = False,
) -> Dataset:
    """A MONAI data set of ``data`` that keeps what ``transform`` makes of a case before its first random part.

    Random transforms draw from the epoch's seed and the case's index, so that neither the number of workers nor an
    interruption changes what they draw.

    Args:
        cache: "memory", "disk", "none", or "auto": memory where all cases fit into half of what is free, shared by the
            processes of this machine, else the disk where they fit into ``limit_gb`` and half of what is free there,
            else none. The choice is logged.
        folder: of the cache on disk; None: "auto" does not take it. Files are named by what they are made of (the
            case, size and time of its files, the transforms), so that runs and processes share them.
        limit_gb: gigabytes that ``folder`` may hold; cases beyond are made anew each time.
        skip_damaged: a case that cannot be read is left out, named in the log, and another stands in for it.

    Raises:
        ValueError: another word for ``cache``; "disk" without ``folder``.
    """
    if cache not in CHOICES:
        raise ValueError(f"cache: {cache!r} is none of {list(CHOICES)}")
    if cache == "disk" and folder is None:
        raise ValueError("cache: 'disk' needs a folder; pass --cache_dir")
    seconds = 0.0
    if cache == "auto":
        cache, seconds = _choose(data, transform, folder, limit_gb)
    if cache == "memory":
        return CasesInMemory(data, transform, skip_damaged=skip_damaged, progress=seconds > 5 and sys.stderr.isatty())
    if cache == "disk":
        return CasesOnDisk(data, transform, skip_damaged=skip_damaged, folder=str(folder), limit_gb=limit_gb)
    return Cases(data, transform, skip_damaged=skip_damaged)


def _choose(data: Sequence[Item], transform: Compose, folder: str | None, limit_gb: float) -> tuple[str, float]:
    """What "auto" takes, and the seconds that all cases would take to be made."""
    if len(data) <= FEW:
        return "memory", 0.0
    start = time.perf_counter()
    picked = [data[index] for index in np.linspace(0, len(data) - 1, SAMPLES).astype(int)]
    sizes = [size for item in picked if (size := _size_of(item, transform))]
    seconds = (time.perf_counter() - start) / SAMPLES * len(data)
    total = (sum(sizes) / len(sizes) if sizes else 0.0) * len(data)
    processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    memory = free_memory() / processes
    disk = 0.0 if folder is None else min(limit_gb * GIGA, SHARE * _free_disk(folder))
    choice = "memory" if total < SHARE * memory else "disk" if total < disk else "none"
    logger.info(
        "cache: %s; %d cases, %.2f GB once decoded, %.1f GB of memory free for each of %d processes%s",
        choice, len(data), total / GIGA, memory / GIGA, processes,
        "" if folder is None or choice == "memory" else f", {disk / GIGA:.0f} GB allowed in {folder}",
    )  # fmt: skip
    return choice, seconds


def _size_of(item: Item, transform: Compose) -> int:
    try:
        return sum(map(_bytes_of, fixed_part(transform, item).values()))
    except (RuntimeError, ValueError, OSError):  # damaged: said where it is used
        return 0


def _bytes_of(value: object) -> int:
    if isinstance(value, torch.Tensor):  # channels that are one in memory count once
        return min(value.element_size() * value.nelement(), value.untyped_storage().nbytes())
    if isinstance(value, np.ndarray):
        return value.nbytes
    if isinstance(value, Mapping):
        return sum(map(_bytes_of, value.values()))
    if isinstance(value, list | tuple):
        return sum(map(_bytes_of, value))
    return len(value) if isinstance(value, str | bytes) else 8


def _free_disk(folder: str) -> int:
    existing = next(path for path in (Path(folder).absolute(), *Path(folder).absolute().parents) if path.exists())
    return shutil.disk_usage(existing).free


def first_random(transform: Compose) -> int | None:
    """Index of the first part of ``transform`` that is drawn at random."""
    return transform.get_index_of_first(lambda t: isinstance(t, RandomizableTrait) or not isinstance(t, Transform))


def fixed_part(transform: Compose, item: Item) -> dict[Hashable, Any]:
    """What ``transform`` makes of ``item`` before its first random part."""
    return transform(deepcopy(item), end=first_random(transform), threading=True)  # type: ignore[return-value]


@contextmanager
def plain_tensors() -> Iterator[None]:
    """MONAI's transforms make no tensors with metadata, which cost random ones a quarter of their time."""
    before = get_track_meta()
    set_track_meta(False)
    try:
        yield
    finally:
        set_track_meta(before)


class Cases(Dataset):
    """A data set whose random transforms draw from the epoch's seed and the case's index; it keeps nothing."""

    def __init__(self, data: Sequence[Item], transform: Compose, *, skip_damaged: bool = False, **options: Any) -> None:
        self.skip_damaged, self.generator = skip_damaged, np.random.RandomState()
        self.epoch_seed = torch.zeros(1, dtype=torch.int64).share_memory_()  # workers see it change
        self.damaged = torch.zeros(len(data), dtype=torch.bool).share_memory_()
        super().__init__(data, transform, **options)

    def set_random_state(self, seed: int | None = None, state: Any = None) -> None:
        """Take ``seed`` for the epoch that begins; not in a worker, where MONAI calls it with the worker's own."""
        if get_worker_info() is None:
            self.epoch_seed.fill_(seed or 0)

    def drawn(self, number: int) -> Any:
        """The case ``number`` modulo their count, drawn for the ``number``-th time: one that comes several times in an
        epoch is another each time.
        """
        index = number % len(self)
        self._seed((int(self.epoch_seed) + 7919 * number) % 2**32)
        try:
            return self._make(index)
        except Exception as error:
            if not self.skip_damaged:
                raise
            self._leave_out(index, error)
            return self.drawn((index + 1) % len(self))

    def _seed(self, seed: int) -> None:
        """One generator for all transforms: MONAI's own way makes one for each, at 0.2 ms."""
        self.generator.seed(seed)
        for part in self.transform.transforms:
            if isinstance(part, Randomizable):
                part.set_random_state(state=self.generator)

    def _transform(self, index: int) -> Any:
        return self.drawn(index)

    def _make(self, index: int) -> Any:
        item, start = self._fixed(index), first_random(self.transform)
        if start is None:
            return item
        with plain_tensors():
            return self.transform(item, start=start)

    def _fixed(self, index: int) -> Any:
        """The case ``index`` before what is drawn at random, to be changed by the caller."""
        return fixed_part(self.transform, self.data[index])

    def _leave_out(self, index: int, error: Exception) -> None:
        """Count the case.

        Raises:
            ValueError: they are more than one in a hundred, or all.
        """
        if not self.damaged[index]:
            self.damaged[index] = True
            logger.warning("left out: case %d, %s", index + 1, _reason(error))
        count = int(self.damaged.sum())
        if count > max(1, DAMAGED * len(self)) or count == len(self):
            raise ValueError(
                f"skip_damaged: {count} of {len(self)} cases cannot be read, more than {DAMAGED:.0%}; the last: "
                f"{_reason(error)}"
            ) from error


def _reason(error: BaseException) -> str:
    while error.__cause__ is not None:
        error = error.__cause__
    return next(iter(str(error).splitlines()), "") or type(error).__name__


class CasesInMemory(Cases, CacheDataset):
    """MONAI's ``CacheDataset``, filled by as many threads as there are cores."""

    def __init__(self, data: Sequence[Item], transform: Compose, *, skip_damaged: bool, progress: bool) -> None:
        threads = min(8, os.cpu_count() or 1)
        torch.set_num_threads(torch.get_num_threads())  # a forked process makes torch's pool anew: not in two threads
        options = {"num_workers": threads, "progress": progress, "as_contiguous": False}  # grey channels stay one
        super().__init__(data, transform, skip_damaged=skip_damaged, **options)

    def _load_cache_item(self, idx: int) -> Any:
        try:
            return super()._load_cache_item(idx)
        except Exception:
            if not self.skip_damaged:
                raise
            return None  # made anew when it is asked for, and then left out

    def _fixed(self, index: int) -> Any:
        return super()._fixed(index) if self._cache[index] is None else deepcopy(self._cache[index])


class CasesOnDisk(Cases):
    """A file for each case, made when it is first asked for; processes and runs share them."""

    def __init__(
        self, data: Sequence[Item], transform: Compose, *, skip_damaged: bool, folder: str, limit_gb: float
    ) -> None:
        super().__init__(data, transform, skip_damaged=skip_damaged)
        self.folder = Path(folder)
        self.recipe = recipe_of(transform.transforms[: first_random(transform)])
        held = sum(file.stat().st_size for file in self.folder.glob("*/*.pt"))
        processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        self.allowed = max(0, int((limit_gb * GIGA - held) / processes))  # bytes that this process may write
        self.written = torch.zeros(1, dtype=torch.int64).share_memory_()

    def _fixed(self, index: int) -> Any:
        item = self.data[index]
        file = file_of(self.folder, item, self.recipe)
        if file.is_file():
            try:
                return restored(torch.load(file, weights_only=True))
            except Exception:  # whatever torch makes of a file that was cut as a machine went down
                file.unlink(missing_ok=True)
        made = storable(fixed_part(self.transform, item))
        if int(self.written) < self.allowed:
            self._write(file, made)
        return restored(made)  # of the kinds that a file gives: a batch may hold both

    def _write(self, file: Path, made: Any) -> None:
        try:
            with whole_file(file) as part:
                save_tensors(made, part)
                self.written += part.stat().st_size
        except (OSError, RuntimeError) as error:
            logger.warning("cache: %s cannot be written (%s); no more cases are kept", file, _reason(error))
            self.written.fill_(self.allowed)
