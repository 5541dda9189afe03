"""Ablations of HFCN by five-fold cross-validation over cases, or on synthetic data: train, evaluate, one table.

``python -m benchmarks.hfcn --out runs/hfcn --dataset_dir FOLDER -- --epochs 20``
What follows ``--`` goes to every training and evaluation. With --dataset_dir each fold is the test set once and an
eighth of the other cases validates; without, seeds 0 to 2 each draw their own synthetic data. Mean and 95 % interval
(Student's t) over runs.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

import numpy as np
from scipy import stats

from benchmarks.ablations import data_of, folder_of, parse, run

logger = logging.getLogger(__name__)
VARIANTS = {
    "HFCN, N = 5": [],
    "backbone only": ["ablations/backbone_only.json"],
    "fixed crops": ["ablations/fixed_crops.json"],
    "N = 1": ["ablations/one_crop.json"],
    "N = 9": ["ablations/nine_crops.json"],
}
COLUMNS = ("roc_auc", "average_precision", "f1", "accuracy", "recall", "specificity", "calibration_error")


def measure(name: str, folder: Path, pretrained: Path | None, overrides: list[str]) -> dict[str, float]:
    """Train one variant, unless its metrics are there, and return the metrics of the test set."""
    configs, places = ["train.json", *VARIANTS[name]], ["--ckpt_dir", str(folder), "--output_dir", str(folder)]
    start = [] if pretrained is None else ["--pretrained", str(pretrained)]
    if not (folder / "metrics.json").is_file():
        run("hfcn", [*configs, *(["finetune.json"] if start else [])], *start, *places, *overrides)
        run("hfcn", [*configs, "evaluate.json"], *places, *overrides)
    return json.loads((folder / "metrics.json").read_text())


def interval(values: list[float]) -> str:
    """Mean with its 95 % interval over runs, cut to [0, 1]."""
    mean = np.mean(values)
    if len(values) < 2:
        return f"{mean:.3f}"
    low, high = stats.t.interval(0.95, len(values) - 1, loc=mean, scale=stats.sem(values) + 1e-12)
    return f"{mean:.3f} [{max(low, 0):.3f}, {min(high, 1):.3f}]"


def table(results: dict[str, list[dict[str, float]]]) -> str:
    """A row for each variant and unit (image, case)."""
    rows = [" | ".join(["variant", "of", *COLUMNS])]
    for name, metrics in results.items():
        for unit, prefix in (("images", ""), ("cases", "case_")):
            cells = [interval([run[prefix + column] for run in metrics]) for column in COLUMNS]
            rows.append(" | ".join([name, unit, *cells]))
    return "\n".join(rows)


def main() -> None:
    parser, own, extra = parse(str(__doc__), VARIANTS)
    parser.add_argument("--runs", type=int, nargs="+", help="folds, or seeds of the synthetic data")
    parser.add_argument("--pretrained", type=Path, help="--out of an earlier run: start from its variant's first seed")
    arguments = parser.parse_args(own)
    results: dict[str, list[dict[str, float]]] = {name: [] for name in arguments.variants}
    for index in arguments.runs or range(5 if arguments.dataset_dir else 3):
        data = ["--dataset_dir", data_of(arguments.out, arguments.dataset_dir, index, reports=600, size=128)]
        fold = ["--test_fold", str(index)] if arguments.dataset_dir else []
        for name in arguments.variants:
            folder = folder_of(arguments.out, name, index)
            start = arguments.pretrained and folder_of(arguments.pretrained, name, 0)
            results[name].append(measure(name, folder, start, [*data, *fold, "--seed", str(index), *extra]))
    logger.info("%s", table(results))


if __name__ == "__main__":
    main()
