"""Ablations of SGF on one data set, beside two baselines without a generator: train, evaluate, one table.

``python -m benchmarks.sgf --out runs/sgf --language zh --seeds 0 1 2 -- --image_size 64``
Without --dataset_dir each seed draws its own synthetic studies. What follows ``--`` goes to every training and
evaluation. The last columns: ROUGE-L less that of the transformer alone, ROUGE-L and CIDEr-D less those of the nearest
neighbour, paired by study, 95 % percentile bootstrap over studies.
"""

from __future__ import annotations

import logging

from benchmarks.ablations import folder_of, parse
from benchmarks.reports import BASELINES, TEXT, baseline, measure, table
from common.synthetic.studies import studies_or_synthetic

logger = logging.getLogger(__name__)
VARIANTS = {
    "transformer only": ["ablations/transformer_only.json"],
    "with clusters": ["ablations/with_clusters.json"],
    "with comparison": ["ablations/with_comparison.json"],
    "full": [],
}
COLUMNS = (*TEXT, "cluster_accuracy", "distinct_reports", "copied_reports")
GAINS = (("transformer only", "rouge_l"), ("nearest neighbour", "rouge_l"), ("nearest neighbour", "cider_d"))


def main() -> None:
    parser, own, extra = parse(str(__doc__), VARIANTS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--language", default="en", help="of the synthetic reports: en or zh")
    parser.add_argument("--studies", type=int, default=800, help="of the synthetic data")
    parser.add_argument("--size", type=int, default=96, help="of the synthetic images in pixels")
    parser.add_argument("--views", type=int, default=2, help="images of a study at most")
    parser.add_argument("--organ", default="thyroid", help="whose entities are counted")
    arguments = parser.parse_args(own)
    for seed in arguments.seeds:
        options = {name: getattr(arguments, name) for name in ("studies", "size", "language")} | {"seed": seed}
        drawn = str(arguments.out / f"synthetic_{seed}")
        data = studies_or_synthetic(dataset_dir=arguments.dataset_dir, synthetic_dir=drawn, options=options)
        fixed = ["--dataset_dir", data, "--seed", str(seed), "--views", str(arguments.views), *extra]
        for name in arguments.variants:
            folder = folder_of(arguments.out, name, seed)
            measure("sgf", VARIANTS[name], folder, fixed, ["--organ", arguments.organ])
        for name in BASELINES:
            baseline(name, data, folder_of(arguments.out, name, seed), views=arguments.views, organ=arguments.organ)
    names, same_data = [*arguments.variants, *BASELINES], arguments.dataset_dir is not None
    rows = table(arguments.out, names, arguments.seeds, columns=COLUMNS, gains=GAINS, same_data=same_data)
    logger.info("%s", rows)


if __name__ == "__main__":
    main()
