"""Dice of groups of cases: small, middle and large nodules, and each TI-RADS level."""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from common.cli.atomic import write_rows
from common.metrics.intervals import mean_interval
from common.results.blocks import Block, table
from common.results.sizes import TRUE

FILE = "strata.csv"
HEADER = ("group", "cases", "patients", "dice", "low", "high")
SIZES = ("small", "middle", "large")  # thirds of the cases by the true nodule's long axis
FEWEST = 9  # cases that are divided by size


def write_strata(folder: Path, columns: Mapping[str, Sequence], patients: Sequence[str], levels: Sequence[str]) -> None:
    """Write ``strata.csv``, mean Dice and its 95 % interval over patients; nothing where the cases tell no group.

    Cases without a nodule have no Dice and are in no group.

    Args:
        columns: of ``per_case.csv``, by name.
        patients, levels: of each case; a TI-RADS level may be "".
    """
    (folder / FILE).unlink(missing_ok=True)  # of an earlier evaluation
    if "dice" not in columns:
        return
    dice = np.array(columns["dice"], dtype=float)
    defined = {name: at[np.isfinite(dice[at])] for name, at in (by_size(columns) | by_level(levels)).items()}
    groups = {name: at for name, at in defined.items() if len(at)}
    if not groups:
        return
    write_rows(
        folder / FILE, [HEADER, *(_row(name, dice[at], [patients[i] for i in at]) for name, at in groups.items())]
    )


def by_size(columns: Mapping[str, Sequence]) -> dict[str, np.ndarray]:
    """Positions of the cases of each third by the true long axis; cases without a nodule are in none."""
    for unit in ("mm", "px"):
        axes = np.array(columns.get(TRUE.format(unit), ()), dtype=float)
        known = np.flatnonzero(axes > 0)
        if len(known) >= FEWEST:
            thirds = np.array_split(known[np.argsort(axes[known], kind="stable")], len(SIZES))
            return {
                f"{size}: {axes[at[0]]:.0f} to {axes[at[-1]]:.0f} {unit}": at
                for size, at in zip(SIZES, thirds, strict=True)
            }
    return {}


def by_level(levels: Sequence[str]) -> dict[str, np.ndarray]:
    """Positions of the cases of each TI-RADS level that is told."""
    groups: dict[str, list[int]] = defaultdict(list)
    for position, level in enumerate(levels):
        if level:
            groups[level].append(position)
    return {f"TI-RADS {level}": np.array(groups[level]) for level in sorted(groups)}


def _row(name: str, dice: np.ndarray, patients: Sequence[str]) -> tuple:
    values: dict[str, list[float]] = defaultdict(list)
    for patient, value in zip(patients, dice.tolist(), strict=True):
        values[patient].append(value)
    mean, low, high = mean_interval(values.values())
    ends = (low, high) if len(values) > 1 else ("", "")  # one patient tells none
    return (name, len(dice), len(values), mean, *ends)


def strata_table(folder: Path) -> list[Block]:
    """``strata.csv`` as a table of a page, if it is there."""
    path = folder / FILE
    if not path.is_file():
        return []
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    shown = [
        (row["group"], row["cases"], row["patients"], f"{float(row['dice']):.3f}",
         f"{float(row['low']):.3f} to {float(row['high']):.3f}" if row["low"] else "")
        for row in rows
    ]  # fmt: skip
    return [table(shown, header=("", "cases", "patients", "Dice", "95 % interval over patients"))]
