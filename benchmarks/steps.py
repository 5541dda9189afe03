"""A training step of each bundle as its ``train.json`` takes it, held against what the machine can do at most.

``python -m benchmarks.steps [--only d2rnet]``. One thread, float32, drawn images, sizes and batches of configs, cases
decoded before. Of one step every operation of torch is counted, backward and frozen parts included: its FLOPs and the
bytes that it reads and writes. *share*: the FLOPs, at the rate that was reached, of the rate of a 2048^3 product.
*bound*: what the step would take if each operation ran at that rate, or at the rate of a large copy, whichever is
slower, as a share of what it takes: depthwise convolutions and norms are bound by memory. Both rates are taken before
and after. *beyond*: loader and handlers, as a share of all time. Each row runs in a process of its own.
"""

from __future__ import annotations

import argparse
import logging
import math
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor

import torch
from ignite.engine import Engine
from monai.bundle import ConfigWorkflow
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from benchmarks.speed import matmul_rate
from benchmarks.timing import seconds

logger = logging.getLogger(__name__)
GAME = {
    f"phases#{name}": value for name, value in {"image_only": 0, "full_report": 0, "dropout": 0, "gate": -1}.items()
}
IMAGES, STUDIES = {"synthetic#reports": 80}, {"synthetic#studies": 240}  # some 170 cases for training
ROWS: dict[str, tuple[str, str, dict[str, object]]] = {
    "akessfa": ("akessfa", "train", IMAGES),
    "akessfa, keyword game": ("akessfa", "train", {**IMAGES, **GAME}),
    "clip_tnseg": ("clip_tnseg", "train", IMAGES),
    "hfcn": ("hfcn", "train", IMAGES),
    "sgf": ("sgf", "train", STUDIES),
    "d2rnet": ("d2rnet", "train", STUDIES),
    "d2rnet's detector": ("d2rnet", "train_detector", STUDIES),
}
HEADER = "training | GFLOPs/step | GB/step | ms/step | GFLOP/s | matmul GFLOP/s | copy GB/s | share | bound | beyond"


class Counted(TorchDispatchMode):
    """FLOPs and bytes of each operation that runs in this mode: ``operations``."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[int, int]] = []

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        kwargs = kwargs or {}
        results = function(*args, **kwargs)
        if not function.is_view:
            tensors = {id(x): x for x in tree_leaves((args, kwargs, results)) if isinstance(x, torch.Tensor)}
            moved = sum(x.numel() * x.itemsize for x in tensors.values())
            self.operations.append((flops_of(function, args, kwargs, results), moved))
        return results

    def seconds(self, flop_rate: float, byte_rate: float) -> float:
        """All operations, each bound by one of the two rates a second."""
        return sum(max(flops / flop_rate, moved / byte_rate) for flops, moved in self.operations)


def flops_of(function: torch._ops.OpOverload, args: tuple, kwargs: dict, results: object) -> int:
    """By torch's formulas, but for gradients of convolutions, where they know no groups."""
    if function.overloadpacket is torch.ops.aten.convolution_backward:
        gradient, image, weight, transposed, asked = args[0], args[1], args[2], args[7], args[10]
        seen = (image if transposed else gradient).shape
        return sum(asked[:2]) * 2 * seen[0] * math.prod(seen[2:]) * weight.numel()
    formula = flop_registry.get(function.overloadpacket)
    return 0 if formula is None else formula(*args, **kwargs, out_val=results)


def copy_rate() -> float:
    """Bytes a second, read and written, of a large copy."""
    source = torch.rand(2**25)
    target = torch.empty_like(source)
    return 2 * source.numel() * source.itemsize / seconds(lambda: target.copy_(source), 5)


class Enough(BaseException):
    """The measured steps are done; no Exception, which MONAI would wrap."""


class Watch:
    """Seconds of each step of the second epoch of ``trainer``, and when it began; ``counted``: the first of all."""

    def __init__(self, trainer: Engine, count: int) -> None:
        self.count, self.counted = count, Counted()
        self.starts: list[float] = []
        self.steps: list[float] = []
        self.process: Callable = trainer._process_function
        trainer._process_function = self.step

    def step(self, engine: Engine, batch: dict) -> object:
        if engine.state.iteration == 1:
            with self.counted:
                return self.process(engine, batch)
        if engine.state.epoch == 1:
            return self.process(engine, batch)
        self.starts.append(time.perf_counter())
        if len(self.starts) > self.count:
            raise Enough
        output = self.process(engine, batch)
        self.steps.append(time.perf_counter() - self.starts[-1])
        return output

    def result(self) -> tuple[float, float]:
        """Seconds of a step, and the share of the time that is not in steps."""
        return statistics.median(self.steps), 1 - sum(self.steps) / (self.starts[-1] - self.starts[0])


def rates() -> tuple[float, float]:
    """GFLOP/s and bytes a second."""
    return matmul_rate(torch.float32), copy_rate()


def measure(name: str, count: int) -> str:
    """The row of ``name``."""
    torch.set_num_threads(1)
    bundle, config, sizes = ROWS[name]
    with tempfile.TemporaryDirectory() as folder:
        values = {"ckpt_dir": folder, "synthetic_dir": f"{folder}/data", "amp": False, "val_interval": 2}
        workflow = ConfigWorkflow(f"bundles/{bundle}/configs/{config}.json", workflow_type="train", **values, **sizes)
        workflow.initialize()
        watch = Watch(workflow.parser.get_parsed_content("train#trainer"), count)
        taken = [rates()]
        try:
            workflow.run()
        except Enough:
            taken.append(rates())
    (flop_rate, byte_rate), (step, beyond) = map(statistics.mean, zip(*taken, strict=True)), watch.result()
    flops, moved = (sum(column) / 1e9 for column in zip(*watch.counted.operations, strict=True))
    bound = watch.counted.seconds(1e9 * flop_rate, byte_rate) / step
    return (
        f"{name} | {flops:.1f} | {moved:.1f} | {1000 * step:.0f} | {flops / step:.1f} | {flop_rate:.1f} | "
        f"{byte_rate / 1e9:.1f} | {flops / step / flop_rate:.0%} | {bound:.0%} | {beyond:.1%}"
    )


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(ROWS), default=list(ROWS))
    parser.add_argument("--steps", type=int, default=12, help="that are measured")
    arguments = parser.parse_args()
    logger.info(HEADER)
    own = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=own, max_tasks_per_child=1) as pool:
        for name in arguments.only:
            logger.info("%s", pool.submit(measure, name, arguments.steps).result())


if __name__ == "__main__":
    main()
