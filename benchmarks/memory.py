"""What gradient checkpointing saves and costs: ``python -m benchmarks.memory [--batches 2 4] [--size 384]``.

A training step of D2R-Net at its published sizes (ResNet-101, ``configs/published.json``) on random studies, with and
without ``--gradient_checkpointing true``, each row in a process of its own: its largest resident memory beyond what the
network, its gradients and Python take, and seconds for a step.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import resource
from concurrent.futures import ProcessPoolExecutor

import psutil
import torch
from d2rnet.report.steps import TeacherForcing
from monai.bundle import ConfigParser

from benchmarks.timing import seconds
from common.engine.learner import learner
from common.engine.steps import report_loss

logger = logging.getLogger(__name__)
CONFIGS = [f"bundles/d2rnet/configs/{name}.json" for name in ("train", "published")]
REGIONS, WORDS = 4, 60


def network_of(size: int) -> torch.nn.Module:
    """The published network, from scratch, without its alignment."""
    parser = ConfigParser()
    parser.read_config(CONFIGS)
    parser["bundle_root"], parser["image_size"] = "bundles/d2rnet", size
    parser["network_def#visual#region_coordinates"] = False
    return TeacherForcing(parser.get_parsed_content("network_def"), None).train()


def batch_of(studies: int, size: int) -> dict[str, torch.Tensor]:
    """Random images and words."""
    ids = torch.randint(4, 100, (studies, WORDS))
    return {
        "image": torch.rand(studies, 1, 3, size, size), "view_mask": torch.ones(studies, 1, dtype=torch.bool),
        "regions": torch.rand(studies, REGIONS, 3, size, size), "input_ids": ids, "target_ids": ids,
        "region_mask": torch.ones(studies, REGIONS, dtype=torch.bool),
    }  # fmt: skip


def measure(studies: int, size: int, checkpointing: bool) -> tuple[float, float]:
    """Gigabytes and seconds of a step."""
    torch.manual_seed(0)
    network = network_of(size)
    trained, batch = learner(network, checkpointing=checkpointing), batch_of(studies, size)

    def step() -> None:
        forced, _ = trained(batch)
        report_loss(forced.log_probs.float(), batch["target_ids"], batch["target_ids"] != 0).backward()

    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    before = psutil.Process().memory_info().rss
    taken = seconds(step, 2)
    return (1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1e9, taken


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batches", type=int, nargs="+", default=[2, 4], help="studies in a step")
    parser.add_argument("--size", type=int, default=384, help="sides of images and regions, in pixels")
    arguments = parser.parse_args()
    own = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=own, max_tasks_per_child=1) as pool:
        for studies in arguments.batches:
            for checkpointing in (False, True):
                memory, taken = pool.submit(measure, studies, arguments.size, checkpointing).result()
                name = "with" if checkpointing else "without"
                logger.info("%d studies, %s checkpointing: %.1f GB, %.1f s a step", studies, name, memory, taken)


if __name__ == "__main__":
    main()
