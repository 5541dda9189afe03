"""What the benchmarks of ablations share: run a bundle's configs, read the results, mean and interval."""

from __future__ import annotations

import argparse
import csv
import logging
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from common.datasets.layouts import read_dataset
from common.metrics.intervals import mean_interval
from common.synthetic.thyroid import dataset_or_synthetic


def parse(description: str, variants: Iterable[str]) -> tuple[argparse.ArgumentParser, list[str], list[str]]:
    """A parser with ``--out``, ``--dataset_dir``, ``--variants``; our arguments, and those after ``--``."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--dataset_dir", help="else each seed draws its own synthetic data")
    parser.add_argument("--variants", nargs="+", choices=list(variants), default=list(variants))
    cut = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    return parser, sys.argv[1:cut], sys.argv[cut + 1 :]


def run(bundle: str, configs: list[str], *overrides: str) -> None:
    """Run configs of a bundle in a process of its own; its log goes to our standard output."""
    files = str([f"bundles/{bundle}/configs/{name}" for name in configs])
    command = [sys.executable, "-m", "monai.bundle", "run", "--config_file", files, *overrides]
    subprocess.run(command, check=True)


def folder_of(out: Path, name: str, seed: int) -> Path:
    """Where the weights and results of a variant and seed lie."""
    return out / f"{name.replace(' ', '_').replace(',', '')}_{seed}"


def data_of(out: Path, dataset_dir: str | None, seed: int, *, reports: int = 1200, size: int = 96) -> str:
    """``dataset_dir``, or the synthetic data of a seed, drawn if they are not there."""
    synthetic, options = str(out / f"synthetic_{seed}"), {"reports": reports, "size": size, "seed": seed}
    return dataset_or_synthetic(dataset_dir=dataset_dir, synthetic_dir=synthetic, options=options)


def patients(data: str) -> dict[str, str]:
    """The patient of each image file of the test split."""
    return {Path(case["image"]).name: case["case"] for case in read_dataset(data, "test")}


def by_patient(per_case: Path, column: str, patient_of: dict[str, str]) -> dict[str, list[float]]:
    """Values of ``column`` for each patient."""
    groups: dict[str, list[float]] = defaultdict(list)
    with open(per_case, newline="") as file:
        for row in csv.DictReader(file):
            groups[patient_of[Path(row["case"]).name]].append(float(row[column]))
    return groups


def paired_gain(first: dict[str, list[float]], second: dict[str, list[float]]) -> str:
    """Mean of ``first`` minus ``second``, paired by image, with its interval over patients."""
    gains = {key: [a - b for a, b in zip(first[key], second[key], strict=True)] for key in first}
    mean, low, high = mean_interval(gains.values())
    return f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]"
