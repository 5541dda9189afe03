"""D2R-Net's regions encoded in one call, against one after the other: ``python -m benchmarks.regions``.

The loop, batch 1 and channels first, is how the published code does it. Both run in one process, in turn; the features
are compared.
"""

from __future__ import annotations

import argparse
import copy
import logging

import torch
from d2rnet.report.regions import RegionEncoder

from benchmarks.timing import seconds

logger = logging.getLogger(__name__)


@torch.no_grad()
def compare(encoder: RegionEncoder, *, studies: int, regions: int, size: int, runs: int) -> str:
    """A row: seconds of the loop and of one call, their ratio, the largest difference of a feature."""
    image = torch.randn(studies, regions, 3, size, size, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(studies, regions, dtype=torch.bool)
    first = copy.deepcopy(encoder).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]

    def loop() -> torch.Tensor:
        rows = [
            [first(image[i : i + 1, j : j + 1], mask[:1, :1])[0, 0] for j in range(regions)] for i in range(studies)
        ]
        return torch.stack([torch.stack(row) for row in rows])

    difference = float((loop() - encoder(image, mask)).abs().max())
    alone, together = seconds(loop, runs), seconds(lambda: encoder(image, mask), runs)
    return (
        f"{studies} x {regions}, {size} px | {alone:.3f} | {together:.3f} | {alone / together:.2f} | {difference:.1e}"
    )


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    logger.info("studies x regions | loop, s | one call, s | ratio | largest difference")
    small = RegionEncoder(channels=8, widths=(16, 32, 32, 64, 64)).eval()
    for name, encoder, size in (("default", small, 64), ("published size", RegionEncoder(channels=3).eval(), 384)):
        for studies, regions in ((1, 1), (2, 3), (16, 4)) if size == 64 else ((1, 1), (2, 3)):
            row = compare(encoder, studies=studies, regions=regions, size=size, runs=arguments.runs)
            logger.info("%s: %s", name, row)


if __name__ == "__main__":
    main()
