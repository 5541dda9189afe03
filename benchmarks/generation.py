"""Speed of writing reports: tokens per second and seconds per report, and how the cost grows with the length.

``python -m benchmarks.generation``. SGF's decoder in its published size (3 layers of width 512, vocabulary 800,
memory of 98 tokens, random weights) writes exactly ``--tokens`` tokens for each study; with ``--slots 3`` it has
R2Gen's relational memory, as D2R-Net's. "no cache" decodes the whole prefix at every step, as published;
"packed" is how evaluation and inference run on CPUs. All rows run in one process, one after the other; ratios count.
"""

from __future__ import annotations

import argparse
import copy
import logging

import torch

from benchmarks.timing import seconds
from common.nn.beam_search import BeamSearch
from common.nn.cpu_layout import pack_linear_layers
from common.nn.report_decoder import ReportDecoder

logger = logging.getLogger(__name__)
VOCABULARY, MEMORY, DIM = 800, 98, 512
IDS = {"begin_id": 2, "end_id": 3, "pad_id": 0}


@torch.no_grad()
def without_cache(decoder: ReportDecoder, memory: torch.Tensor, tokens: int) -> torch.Tensor:
    """Greedy ids (B, tokens), the prefix decoded anew for each."""
    ids = torch.full((len(memory), 1), IDS["begin_id"])
    for _ in range(tokens):
        scores = decoder(ids, memory)[:, -1]
        scores[:, list(IDS.values())] = float("-inf")
        ids = torch.cat([ids, scores.argmax(1, keepdim=True)], dim=1)
    return ids[:, 1:]


def searcher(decoder: ReportDecoder, beams: int, tokens: int) -> BeamSearch:
    """A search that ends no report before ``tokens`` tokens."""
    return BeamSearch(decoder, beams=beams, max_length=tokens, min_length=tokens - 1, **IDS).eval()


def compare(decoder: ReportDecoder, *, batches: list[int], tokens: int, runs: int) -> list[str]:
    """Rows of the first table."""
    rows = ["batch | way | s/report | tokens/s | against no cache"]
    for batch in batches:
        memory = torch.randn(batch, MEMORY, DIM, generator=torch.Generator().manual_seed(batch))
        greedy, beam = searcher(decoder, 1, tokens), searcher(decoder, 3, tokens)
        scripted = torch.jit.script(greedy), torch.jit.script(beam)
        packed = copy.deepcopy(greedy), copy.deepcopy(beam)
        for search in packed:
            pack_linear_layers(search)
        plain, cached = without_cache(decoder, memory, tokens), greedy(memory).ids[:, 0]
        if not torch.equal(plain[:, : tokens - 1], cached[:, : tokens - 1]):
            raise RuntimeError(f"batch {batch}: with and without cache wrote different ids")
        ways = {
            "greedy, no cache": lambda memory=memory: without_cache(decoder, memory, tokens),
            "greedy": lambda memory=memory, search=greedy: search(memory),
            "greedy, TorchScript": lambda memory=memory, search=scripted[0]: search(memory),
            "greedy, packed": lambda memory=memory, search=packed[0]: search(memory),
            "beam 3": lambda memory=memory, search=beam: search(memory),
            "beam 3, TorchScript": lambda memory=memory, search=scripted[1]: search(memory),
            "beam 3, packed": lambda memory=memory, search=packed[1]: search(memory),
        }
        base = 0.0
        for name, call in ways.items():
            taken = seconds(call, runs)
            base = base or taken
            rows.append(f"{batch} | {name} | {taken / batch:.3f} | {batch * tokens / taken:.0f} | {base / taken:.1f}")
    return rows


def growth(decoder: ReportDecoder, *, lengths: list[int], runs: int) -> list[str]:
    """Rows of the second table: greedy, batch 2."""
    memory = torch.randn(2, MEMORY, DIM, generator=torch.Generator().manual_seed(0))
    rows = ["tokens | ms/token | ms/token, no cache"]
    for tokens in lengths:
        search = searcher(decoder, 1, tokens)
        cached = seconds(lambda search=search: search(memory), runs)  # type: ignore[misc]
        plain = seconds(lambda tokens=tokens: without_cache(decoder, memory, tokens), 1)  # type: ignore[misc]
        rows.append(f"{tokens} | {1000 * cached / tokens:.2f} | {1000 * plain / tokens:.2f}")
    return rows


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=150)
    parser.add_argument("--slots", type=int, default=0, help="of the relational memory")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 2, 16])
    parser.add_argument("--lengths", type=int, nargs="+", default=[50, 100, 200, 400])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    torch.manual_seed(0)
    decoder = ReportDecoder(
        vocab_size=VOCABULARY, dim=DIM, hidden=DIM, layers=3, max_length=512, slots=arguments.slots
    ).eval()
    rows = compare(decoder, batches=arguments.batches, tokens=arguments.tokens, runs=arguments.runs)
    logger.info("%s", "\n".join(rows))
    logger.info("%s", "\n".join(growth(decoder, lengths=arguments.lengths, runs=arguments.runs)))


if __name__ == "__main__":
    main()
