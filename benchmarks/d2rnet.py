"""Ablations of D2R-Net on one data set, beside two baselines without a generator: train, evaluate, one table.

``python -m benchmarks.d2rnet --out runs/d2rnet --seeds 0 1 2``
Without --dataset_dir each seed draws its own synthetic chest X-rays, whose boxes are the true ones. What follows ``--``
goes to every training and evaluation. The last columns: ROUGE-L less that of R2Gen, ROUGE-L and CIDEr-D less those of
the nearest neighbour, paired by study, 95 % percentile bootstrap over studies.
"""

from __future__ import annotations

import logging

from benchmarks.ablations import folder_of, parse
from benchmarks.reports import BASELINES, TEXT, baseline, measure, table
from common.synthetic.chest import chest_or_synthetic

logger = logging.getLogger(__name__)
VARIANTS = {
    "r2gen": ["ablations/r2gen.json"],
    "regions": ["ablations/regions.json"],
    "without coordinates": ["ablations/without_coordinates.json"],
    "with local": ["ablations/with_local.json"],
    "with global": ["ablations/with_global.json"],
    "full": [],
}
FINDINGS = ("chexpert_f1_14_micro", "chexpert_f1_14_macro", "chexpert_f1_5_micro", "chexpert_f1_5_macro")
LESIONS = ("lesion_precision", "lesion_recall", "lesion_f1", "lesion_side")
COLUMNS = (*TEXT, *FINDINGS, *LESIONS, "distinct_reports", "copied_reports")
GAINS = (("r2gen", "rouge_l"), ("nearest neighbour", "rouge_l"), ("nearest neighbour", "cider_d"))


def main() -> None:
    parser, own, extra = parse(str(__doc__), VARIANTS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--studies", type=int, default=800, help="of the synthetic data")
    parser.add_argument("--size", type=int, default=128, help="of the synthetic images in pixels")
    parser.add_argument("--views", type=int, default=1, help="images of a study at most")
    parser.add_argument("--annotation", help="of --dataset_dir, with the boxes of pseudo_label.json")
    arguments = parser.parse_args(own)
    for seed in arguments.seeds:
        options = {"studies": arguments.studies, "size": arguments.size, "seed": seed}
        drawn = str(arguments.out / f"synthetic_{seed}")
        data = chest_or_synthetic(dataset_dir=arguments.dataset_dir, synthetic_dir=drawn, options=options)
        fixed = ["--dataset_dir", data, "--seed", str(seed), "--views", str(arguments.views), *extra]
        if arguments.annotation:
            fixed += ["--annotation", arguments.annotation]
        for name in arguments.variants:
            measure("d2rnet", VARIANTS[name], folder_of(arguments.out, name, seed), fixed, [])
        for name in BASELINES:
            folder, which = folder_of(arguments.out, name, seed), arguments.annotation
            baseline(name, data, folder, views=arguments.views, organ="chest", annotation=which)
    names, same_data = [*arguments.variants, *BASELINES], arguments.dataset_dir is not None
    rows = table(arguments.out, names, arguments.seeds, columns=COLUMNS, gains=GAINS, same_data=same_data)
    logger.info("%s", rows)


if __name__ == "__main__":
    main()
