"""What one image costs in a warm ``inference.json`` of each bundle, and what of it is not the network's.

``python -m benchmarks.latency [--only sgf]``. Drawn images and studies, weights that come along, one thread, batches
of one. *network*: the iteration, d2rnet's detector included; *files*: pictures of an image, drawn and written;
*loading*: decoding and resizing; *page*: ``predictions.json`` and the page, once a run, as a share of each image. Each
bundle runs in a process of its own, once before it is measured.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import shutil
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigWorkflow

from benchmarks.demo import REPORT, draw, draw_study

logger = logging.getLogger(__name__)
BUNDLES = ("akessfa", "clip_tnseg", "hfcn", "sgf", "d2rnet")
PARTS = ("network", "files", "loading", "page")


class Clock:
    """Seconds spent in each of some functions, that of one within another counted once."""

    def __init__(self) -> None:
        self.spent = dict.fromkeys(PARTS, 0.0)

    def watched(self, part: str, function: Callable, *, outer: str | None = None) -> Callable:
        """``function``, whose time goes to ``part``; it is taken from ``outer``, within which it runs."""

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*args, **kwargs)
            finally:
                taken = time.perf_counter() - start
                self.spent[part] += taken
                if outer is not None:
                    self.spent[outer] -= taken

        return timed


def example(bundle: str, folder: Path, count: int) -> dict[str, str]:
    """Draw ``count`` images or studies into ``folder``; return what the inference is given."""
    images = folder / "images"
    images.mkdir()
    if bundle in ("sgf", "d2rnet"):
        study, _ = draw_study(folder, "thyroid" if bundle == "sgf" else "chest")
        for index in range(count):
            shutil.copytree(study, images / f"study{index}")
        return {"image": str(images)}
    drawn, _ = draw(folder)
    for index in range(count):
        shutil.copy(drawn, images / f"image{index}.png")
    return {"image": str(images)} | ({"report": REPORT} if bundle == "akessfa" else {})


def watch(parser: Any, clock: Clock) -> Any:
    """The evaluator of a parsed config, whose parts ``clock`` times."""
    evaluator = parser.get_parsed_content("evaluator")
    evaluator._process_function = clock.watched("network", evaluator._process_function)
    dataset = evaluator.data_loader.dataset
    dataset.transform = clock.watched("loading", dataset.transform)
    writer = next(part for part in parser.get_parsed_content("handlers") if hasattr(part, "write_summary"))
    writer.write = clock.watched("files", writer.write)
    writer.write_summary = clock.watched("page", writer.write_summary)
    if "trained_detector" in parser:
        detector = parser.get_parsed_content("trained_detector")
        detector.detector.forward = clock.watched("network", detector.detector.forward, outer="loading")
    return evaluator


def measure(bundle: str, count: int) -> str:
    """The row of ``bundle``."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        values = example(bundle, Path(name), count) | {"output_dir": f"{name}/results"}
        workflow = ConfigWorkflow(f"bundles/{bundle}/configs/inference.json", workflow_type="infer", **values)
        workflow.initialize()
        workflow.parser.get_parsed_content("prepare")
        clock = Clock()
        evaluator = watch(workflow.parser, clock)
        evaluator.run()
        clock.spent = dict.fromkeys(PARTS, 0.0)
        start = time.perf_counter()
        evaluator.run()
        whole = time.perf_counter() - start
    network, *others = (1000 * clock.spent[part] / count for part in PARTS)
    rest = 1000 * whole / count - network - sum(others)
    shown = " | ".join(f"{value:.0f}" for value in (network, *others, rest))
    return f"{bundle} | {1000 * whole / count:.0f} | {shown} | {(sum(others) + rest) / network:.0%}"


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=BUNDLES, default=BUNDLES)
    parser.add_argument("--count", type=int, default=16, help="images or studies of a run")
    arguments = parser.parse_args()
    logger.info("bundle | ms/image | %s | rest | all but the network", " | ".join(PARTS))
    own = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=own, max_tasks_per_child=1) as pool:
        for bundle in arguments.only:
            logger.info("%s", pool.submit(measure, bundle, arguments.count).result())


if __name__ == "__main__":
    main()
