"""Speed of AKE-SSFA as ratios: milliseconds an image, GFLOPs, and the share of the matmul rate of the same run.

``python -m benchmarks.speed``; the multiply-adds are counted by torch's FlopCounterMode (2 FLOPs each). The matmul rate
is the best of several 2048^3 products in the same data type, measured before each row: machines drift.
"""

from __future__ import annotations

import argparse
import logging
import statistics
import time
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

from akessfa.network import AKESSFA, Segmenter
from common.text_encoders import TransformerTextEncoder

logger = logging.getLogger(__name__)
WORDS = 96


def seconds(call: Callable[[], object], runs: int) -> float:
    """Median time of ``call`` after one warm-up."""
    call()
    times = []
    for _ in range(runs):
        start = time.perf_counter()
        call()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def matmul_rate(dtype: torch.dtype) -> float:
    """GFLOP/s of a large square product."""
    a, b = torch.rand(2048, 2048).to(dtype), torch.rand(2048, 2048).to(dtype)
    return 2 * 2048**3 / seconds(lambda: a @ b, 5) / 1e9


def row(depth: int, size: int, batch: int, dtype: torch.dtype, runs: int) -> str:
    """One line of the table for inference with keywords."""
    encoder = TransformerTextEncoder(vocab_size=4096, width=128)
    network = AKESSFA(segmenter=Segmenter(text_encoder=encoder, depth=depth)).eval()
    ids = torch.randint(4, 4096, (batch, WORDS))
    arguments = (
        torch.rand(batch, 1, size, size),
        ids,
        torch.ones_like(ids),
        (torch.arange(WORDS) // 12).repeat(batch, 1),
    )
    millions = sum(p.numel() for p in network.parameters()) / 1e6

    def infer() -> None:
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            network.explain(*arguments)

    with FlopCounterMode(display=False) as counter:
        infer()
    rate, taken = matmul_rate(dtype), seconds(infer, runs)
    reached = counter.get_total_flops() / taken / 1e9
    name = "bf16" if dtype == torch.bfloat16 else "fp32"
    gflops = counter.get_total_flops() / batch / 1e9
    return (
        f"ResNet-{depth} {size}x{size} batch {batch} {name} | {millions:.1f} M | {gflops:.2f} | "
        f"{1000 * taken / batch:.1f} | {reached:.0f} | {rate:.0f} | {100 * reached / rate:.0f} %"
    )


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=7)
    runs = parser.parse_args().runs
    logger.info("%d threads", torch.get_num_threads())
    logger.info("network | parameters | GFLOPs/image | ms/image | GFLOP/s | matmul GFLOP/s | share")
    for depth, size in ((18, 96), (18, 160), (34, 224)):
        for batch in (1, 8):
            for dtype in (torch.float32, torch.bfloat16):
                logger.info("%s", row(depth, size, batch, dtype, runs))


if __name__ == "__main__":
    main()
