"""Speed of the networks as ratios: milliseconds, GFLOPs, and the share of the matmul rate of the same moment.

``python -m benchmarks.speed [--bundles akessfa clip_tnseg hfcn]``. Multiply-adds are counted by torch's FlopCounterMode
(2 FLOPs each). The matmul rate is that of a 2048^3 product in the same data type, by the faster of torch's two
libraries (MKL, oneDNN), measured before each row: machines drift. Every row runs in a process of its own, whose largest
resident memory it shows. Weights are random. With glibc, large blocks that are given back and taken anew cost page
faults; ``MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=8589934592`` keeps them.
"""

from __future__ import annotations

import argparse
import logging
import multiprocessing
import resource
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial

import torch
from clip_tnseg.frozen_clip import FrozenClip
from clip_tnseg.network import CLIPTNseg
from clip_tnseg.steps import FromFeatures
from hfcn.network import HFCN
from monai.losses import DiceLoss
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.mkldnn import MkldnnLinear
from transformers import CLIPConfig, CLIPModel

from akessfa.network import AKESSFA, Segmenter
from benchmarks.timing import seconds
from common.nn.cpu_layout import CPULayout
from common.text.encoders import TransformerTextEncoder

logger = logging.getLogger(__name__)
WORDS = 96
HEADER = "network | parameters | GFLOPs/image | ms/image | GFLOP/s | matmul GFLOP/s | share | peak GB"


@torch.no_grad()
def matmul_rate(dtype: torch.dtype) -> float:
    """GFLOP/s of a large square product, by oneDNN or by what torch chooses."""
    linear, x = nn.Linear(2048, 2048, bias=False).to(dtype), torch.rand(2048, 2048).to(dtype)
    packed, y = MkldnnLinear(linear, dtype), x.to_mkldnn()
    return 2 * 2048**3 / min(seconds(lambda: linear(x), 5), seconds(lambda: packed(y), 5)) / 1e9


def row(
    name: str,
    network: nn.Module,
    call: Callable[[], object],
    batch: int,
    dtype: torch.dtype,
    runs: int,
    prepare: Callable[[], object] = lambda: None,
) -> str:
    """One line of the table: ``call`` runs ``network`` on a batch, after ``prepare`` has laid out its weights."""
    millions = sum(p.numel() for p in network.parameters()) / 1e6

    def cast() -> None:
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            call()

    with FlopCounterMode(display=False) as counter:  # in float32: below this mode autocast does not reach fused layers
        call()
    prepare()
    rate, taken = matmul_rate(dtype), seconds(cast, runs)
    reached, gflops = counter.get_total_flops() / taken / 1e9, counter.get_total_flops() / batch / 1e9
    kind = "bf16" if dtype == torch.bfloat16 else "fp32"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return (
        f"{name}, batch {batch}, {kind} | {millions:.1f} M | {gflops:.2f} | {1000 * taken / batch:.1f} | "
        f"{reached:.0f} | {rate:.0f} | {100 * reached / rate:.0f} % | {peak:.1f}"
    )


def akessfa(depth: int, size: int, batch: int, dtype: torch.dtype, runs: int) -> str:
    """Inference with keywords."""
    encoder = TransformerTextEncoder(vocab_size=4096, width=128)
    network = AKESSFA(segmenter=Segmenter(text_encoder=encoder, depth=depth)).eval()
    ids = torch.randint(4, 4096, (batch, WORDS))
    sentences = (torch.arange(WORDS) // 12).repeat(batch, 1)
    image = torch.rand(batch, 1, size, size)
    call = torch.no_grad()(lambda: network.explain(image, ids, torch.ones_like(ids), sentences))
    return row(f"AKE-SSFA ResNet-{depth} {size}x{size}", network, call, batch, dtype, runs)


def clip_tnseg() -> CLIPTNseg:
    """The published sizes."""
    text = {"bos_token_id": 49406, "eos_token_id": 49407}
    config = CLIPConfig(text_config=text, vision_config={"patch_size": 16}, projection_dim=512)
    return CLIPTNseg(clip=FrozenClip(weights=CLIPModel(config)))


def clip_tnseg_inference(size: int, cached: bool, batch: int, dtype: torch.dtype, runs: int) -> str:
    """Image and phrase to logits; ``cached``: the phrase's condition was computed before."""
    network, image, ids = clip_tnseg().eval(), torch.rand(batch, 3, size, size), torch.full((batch, 77), 49407)
    with torch.no_grad():
        condition = network.clip.condition(ids)
    once = torch.no_grad()(lambda: network.segment(image, network.taps(image), condition))
    each = torch.no_grad()(lambda: network(image, ids))
    name = f"CLIP-TNseg {size}x{size}, text {'cached' if cached else 'encoded'}"
    layout = CPULayout(linear=network.clip, convolutions=network.convolutions(), amp=dtype == torch.bfloat16)
    return row(name, network, once if cached else each, batch, dtype, runs, layout.apply)


def clip_tnseg_training(size: int, cached: bool, batch: int, dtype: torch.dtype, runs: int) -> str:
    """Forward and backward of a training step with cached text; ``cached``: the taps are, too."""
    network, image = clip_tnseg().train(), torch.rand(batch, 3, size, size)
    trained, loss = FromFeatures(network), DiceLoss(sigmoid=True)
    label, condition = torch.ones(batch, 1, size, size), torch.rand(batch, 512)
    with torch.no_grad():
        known = network.taps(image)

    def step() -> None:
        with torch.no_grad():
            taps = known if cached else network.taps(image)
        loss(trained(image, taps, condition).float(), label).backward()

    return row(
        f"CLIP-TNseg step {size}x{size}, taps {'cached' if cached else 'computed'}", network, step, batch, dtype, runs
    )


def hfcn(crops: int, looped: bool, batch: int, dtype: torch.dtype, runs: int) -> str:
    """The feature-cropping branch behind the trunk: all crops in one batch, or one after the other."""
    network = HFCN(crops=crops).eval()
    with torch.no_grad():
        features = network.trunk(torch.rand(batch, 1, 224, 224))
    windows = network.choose_windows(features)

    @torch.no_grad()
    def together() -> torch.Tensor:
        return network.local(network.crop(features, windows))[0]

    @torch.no_grad()
    def one_by_one() -> list[torch.Tensor]:
        return [network.local(network.crop(features, windows[:, n : n + 1]))[0] for n in range(crops)]

    name = f"HFCN crops 224x224, N = {crops}, {'loop' if looped else 'one batch'}"
    return row(name, network.local, one_by_one if looped else together, batch, dtype, runs)


def rows(bundle: str) -> Iterator[partial[str]]:
    """The rows of a bundle's table, each to be called with data type and runs; the batch is its last argument."""
    if bundle == "akessfa":
        yield from (
            partial(akessfa, depth, size, b) for depth, size in ((18, 96), (18, 160), (34, 224)) for b in (1, 8)
        )
    if bundle == "clip_tnseg":
        yield from (partial(clip_tnseg_inference, 352, cached, batch) for batch in (1, 8) for cached in (False, True))
        yield from (partial(clip_tnseg_training, 352, cached, 2) for cached in (False, True))
    if bundle == "hfcn":
        yield from (partial(hfcn, n, looped, b) for b in (1, 8) for n in (5, 9) for looped in (False, True))


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    bundles = ["akessfa", "clip_tnseg", "hfcn"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundles", nargs="+", choices=bundles, default=bundles)
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 8], help="rows with these batches; 2: steps")
    parser.add_argument("--runs", type=int, default=7)
    arguments = parser.parse_args()
    logger.info("%d threads", torch.get_num_threads())
    logger.info(HEADER)
    own = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=own, max_tasks_per_child=1) as pool:
        for call in (call for bundle in arguments.bundles for call in rows(bundle)):
            if call.args[-1] not in arguments.batches:
                continue
            for dtype in (torch.float32, torch.bfloat16):
                logger.info("%s", pool.submit(call, dtype, arguments.runs).result())


if __name__ == "__main__":
    main()
