"""Unbiased Teacher v2 against training on labelled chest X-rays alone, at several shares of labels: one table.

``python -m benchmarks.detector --out runs/detector --seeds 0 1 2``
Each seed draws its own synthetic X-rays; images whose boxes are not used are the unlabelled ones, and at a share of 1
a second set of the same size is (with --dataset_dir: --unlabelled_dir). Both kinds of training take as many steps. What
follows ``--`` goes to every training and evaluation. Figures are of the test split: mean over seeds, standard deviation
in brackets.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np

from benchmarks.ablations import folder_of, parse, run
from common.synthetic.chest import chest_or_synthetic

logger = logging.getLogger(__name__)
VARIANTS = {"supervised only": ["supervised_only.json"], "Unbiased Teacher v2": []}
COLUMNS = ("map", "ap50", "ar", "froc")


def measure(name: str, folder: Path, overrides: list[str]) -> None:
    """Train one variant, unless its metrics are there, and evaluate it on the test split."""
    if (folder / "metrics.json").is_file():
        return
    configs, places = ["train_detector.json", *VARIANTS[name]], ["--ckpt_dir", str(folder), "--output_dir", str(folder)]
    run("d2rnet", configs, *places, *overrides)
    run("d2rnet", [*configs, "evaluate_detector.json"], *places, *overrides)


def table(out: Path, names: list[str], shares: list[float], seeds: list[int]) -> str:
    """A row for each share and variant."""
    rows = [" | ".join(["labelled", "variant", "seeds", *COLUMNS])]
    for share in shares:
        for name in names:
            files = [folder_of(out, f"{name} {share}", seed) / "metrics.json" for seed in seeds]
            metrics = [json.loads(file.read_text()) for file in files]
            values = [[m[column] for m in metrics] for column in COLUMNS]
            spread = [f" ({np.std(v, ddof=1):.3f})" if len(v) > 1 else "" for v in values]
            cells = [f"{np.mean(v):.3f}{s}" for v, s in zip(values, spread, strict=True)]
            rows.append(" | ".join([f"{share:.0%}", name, str(len(seeds)), *cells]))
    return "\n".join(rows)


def main() -> None:
    parser, own, extra = parse(str(__doc__), VARIANTS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--shares", type=float, nargs="+", default=[0.05, 0.1, 1.0], help="of labelled images")
    parser.add_argument("--studies", type=int, default=800, help="of the synthetic data")
    parser.add_argument("--size", type=int, default=128, help="of the synthetic images in pixels")
    parser.add_argument("--unlabelled_dir", help="beside --dataset_dir, at a share of 1")
    arguments = parser.parse_args(own)
    if 1 in arguments.shares and arguments.dataset_dir and not arguments.unlabelled_dir:
        raise SystemExit("--unlabelled_dir: a share of 1 leaves no image unlabelled; pass a folder, or other --shares")
    for seed in arguments.seeds:
        options = {"studies": arguments.studies, "size": arguments.size}
        data, more = (
            chest_or_synthetic(
                dataset_dir=folder,
                synthetic_dir=str(arguments.out / f"{kind}_{seed}"),
                options={**options, "seed": drawn},
            )
            for kind, folder, drawn in (
                ("synthetic", arguments.dataset_dir, seed),
                ("unlabelled", arguments.unlabelled_dir, 1000 + seed),
            )
        )
        for share in arguments.shares:
            fixed = ["--dataset_dir", data, "--seed", str(seed), "--labelled_share", str(share), *extra]
            if share == 1:
                fixed += ["--unlabelled_dir", more]
            for name in arguments.variants:
                measure(name, folder_of(arguments.out, f"{name} {share}", seed), fixed)
    logger.info("%s", table(arguments.out, arguments.variants, arguments.shares, arguments.seeds))


if __name__ == "__main__":
    main()
