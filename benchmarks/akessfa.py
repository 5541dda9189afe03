"""Ablations of AKE-SSFA on one data set: train each variant, evaluate it on the test split, print one table.

``python -m benchmarks.akessfa --out runs/ddti --dataset_dir FOLDER --seeds 0 -- --image_size 160 --epochs 60``
Without --dataset_dir each seed draws its own synthetic data. --pretrained OUT_OF_AN_EARLIER_RUN fine-tunes each variant
from the same variant and seed there (configs/finetune.json). What follows ``--`` goes to every training and evaluation.
Intervals are 95 % percentile bootstraps over cases (patients), 2,000 resamples.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
from scipy.stats import bootstrap

from common.datasets.layouts import read_dataset
from common.datasets.synthetic import dataset_or_synthetic

logger = logging.getLogger(__name__)
CONFIGS = Path("bundles/akessfa/configs")
TRAINED = {
    "image only": ["ablations/image_only.json"],
    "full report": ["ablations/full_report.json"],
    "full report + AKE": [],
    "AKE without attention mass": ["ablations/no_attention_mass.json"],
    "AKE on sentences only": ["ablations/sentences_only.json"],
    "full report without alignment": ["ablations/full_report.json", "ablations/no_alignment.json"],
}
REPORTS = ("own", "wrong", "empty")
IMAGE_ONLY = ("empty",)  # its text modules are untrained: a report would be noise


def run(configs: list[str], *overrides: str) -> None:
    """Run a bundle's configs in a process of its own; its log goes to our standard output."""
    files = str([str(CONFIGS / name) for name in configs])
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", files, *overrides]
    subprocess.run(command, check=True)


def kinds_of(name: str) -> tuple[str, ...]:
    """The kinds of reports that a variant is tested with."""
    return IMAGE_ONLY if name == "image only" else REPORTS


def measure(name: str, seed: int, folder: Path, pretrained: Path | None, overrides: list[str]) -> None:
    """Train one variant with one seed, unless its weights are there, and evaluate it with each kind of report."""
    common = ["--ckpt_dir", str(folder), "--seed", str(seed), *overrides]
    configs = ["train.json", *TRAINED[name]]
    if pretrained is not None:
        configs.insert(1, "finetune.json")
        common += ["--pretrained", str(pretrained / folder.name)]
    if not (folder / "done").is_file():
        run(configs, *common)
        (folder / "done").touch()
    for reports in kinds_of(name):
        output = folder / f"test_{reports}"
        if not (output / "metrics.json").is_file():
            run([*configs, "evaluate.json"], *common, "--reports", reports, "--output_dir", str(output))


def by_patient(per_case: Path, column: str, patient_of: dict[str, str]) -> dict[str, list[float]]:
    """Values of ``column`` for each patient."""
    groups: dict[str, list[float]] = defaultdict(list)
    with open(per_case, newline="") as file:
        for row in csv.DictReader(file):
            groups[patient_of[Path(row["case"]).name]].append(float(row[column]))
    return groups


def mean_interval(groups: dict[str, list[float]]) -> tuple[float, float, float]:
    """Mean over images, with a bootstrap interval that resamples patients."""
    sums = np.array([sum(values) for values in groups.values()])
    counts = np.array([len(values) for values in groups.values()])
    interval = bootstrap(
        (sums, counts), lambda s, c, axis=-1: s.sum(axis) / c.sum(axis), paired=True, n_resamples=2000,
        vectorized=True, method="percentile", rng=np.random.default_rng(0),
    ).confidence_interval  # fmt: skip
    return float(sums.sum() / counts.sum()), float(interval.low), float(interval.high)


def differences(out: Path, names: list[str], seeds: list[int], patient_of: dict[int, dict[str, str]]) -> str:
    """Dice with the own report minus that of the network trained on images alone, paired by image."""
    rows = []
    for name in names:
        for seed in seeds:
            tested = [out / f"{name.replace(' ', '_')}_{seed}" / "test_own", out / f"image_only_{seed}" / "test_empty"]
            if name == "image only" or not all((folder / "metrics.json").is_file() for folder in tested):
                continue
            own, alone = (by_patient(folder / "per_case.csv", "dice", patient_of[seed]) for folder in tested)
            gains = {key: [a - b for a, b in zip(own[key], alone[key], strict=True)] for key in own}
            mean, low, high = mean_interval(gains)
            rows.append(f"{name} | {seed} | own report minus image only | {mean:+.3f} [{low:+.3f}, {high:+.3f}]")
    return "\n".join(rows)


def table(out: Path, names: list[str], seeds: list[int], patient_of: dict[int, dict[str, str]]) -> str:
    """One row a variant, seed and kind of report: Dice with its interval, IoU, HD95, keyword measures."""
    rows = [
        "variant | seed | report | Dice [95 %] | IoU | HD95 px"
        " | hit (G / mass / leave-one-out) | AUC-S | AUC-C | AUC-W | same"
    ]
    for name in names:
        for seed in seeds:
            for reports in kinds_of(name):
                folder = out / f"{name.replace(' ', '_')}_{seed}" / f"test_{reports}"
                metrics = json.loads((folder / "metrics.json").read_text())
                mean, low, high = mean_interval(by_patient(folder / "per_case.csv", "dice", patient_of[seed]))
                methods = ("generator", "attention_mass", "leave_one_out")
                keywords = [
                    " / ".join(f"{metrics[f'{method}_{key}']:.2f}" for method in methods)
                    if f"generator_{key}" in metrics
                    else "-"
                    for key in ("hit", "auc_sentence", "auc_content", "auc_word", "same")
                ]
                iou, hd95 = metrics["iou"], metrics["hd95"]
                cells = [
                    name,
                    str(seed),
                    reports,
                    f"{mean:.3f} [{low:.3f}, {high:.3f}]",
                    f"{iou:.3f}",
                    f"{hd95:.1f}",
                    *keywords,
                ]
                rows.append(" | ".join(cells))
    return "\n".join(rows)


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    cut = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    own, extra = sys.argv[1:cut], sys.argv[cut + 1 :]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--dataset_dir")
    parser.add_argument("--pretrained", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--variants", nargs="+", choices=TRAINED, default=list(TRAINED)[:3])
    arguments = parser.parse_args(own)
    patient_of = {}
    for seed in arguments.seeds:
        synthetic = str(arguments.out / f"synthetic_{seed}")
        dataset = ["--dataset_dir", arguments.dataset_dir or synthetic]
        if arguments.dataset_dir is None:
            _draw(synthetic, seed)
        for name in arguments.variants:
            folder = arguments.out / f"{name.replace(' ', '_')}_{seed}"
            measure(name, seed, folder, arguments.pretrained, [*dataset, *extra])
        patient_of[seed] = {Path(case["image"]).name: case["case"] for case in read_dataset(dataset[1], "test")}
    for summary in (table, differences):
        logger.info("%s", summary(arguments.out, arguments.variants, arguments.seeds, patient_of))


def _draw(folder: str, seed: int) -> None:
    options = {"reports": 1200, "size": 96, "seed": seed}
    dataset_or_synthetic(dataset_dir=None, synthetic_dir=folder, options=options)


if __name__ == "__main__":
    main()
