"""What an inspection found, told: rows and lines to read, a table to train on, a manifest of the files."""

from __future__ import annotations

import json
import logging
import os
import statistics
from collections import Counter
from pathlib import Path
from typing import Any

from common.cli.location import installed
from common.datasets.inspection import GENERATORS, SPLITS, TEMPLATED, DatasetReport, images_of, unlike_pairs
from common.datasets.malignancy import malignancy
from common.images.manifest import manifest_of

logger = logging.getLogger(__name__)


def summary(dataset_report: DatasetReport, bundle: str) -> list[tuple[str, ...]]:
    """A row a split: images, patients or studies, reports and their length in words, classes where known."""
    rows: list[tuple[str, ...]] = []
    for split, cases in dataset_report.splits.items():
        names = {str(case.get("case", case.get("study"))) for case in cases}
        texts = {str(case["report"]) for case in cases if case.get("report")}
        lengths = sorted(len(text.split()) for text in texts)
        length = f"{statistics.median(lengths):.0f} ({lengths[0]} to {lengths[-1]})" if lengths else ""
        known = Counter(malignancy(case) for case in cases) if bundle == "hfcn" else Counter()
        classes = f"{known[0]} / {known[1]}" if known[0] + known[1] else ""
        count = sum(len(images_of(case)) for case in cases)
        rows.append((split, f"{count}", f"{len(names)}", f"{len(texts)}", length, classes))
    return rows


def report(dataset_report: DatasetReport, bundle: str, *, examples: int) -> int:
    """Log what was found; return the exit code."""
    logger.info("Layout: %s", dataset_report.layout)
    who = "studies" if bundle in GENERATORS else "patients"
    header = ("split", "images", who, "different reports", "words: median (range)", "benign / malignant")
    table = [header, *summary(dataset_report, bundle)]
    kept = [column for column in range(len(header)) if any(row[column] for row in table[1:])]
    widths = [max(len(row[column]) for row in table) for column in kept]
    for row in table:
        logger.info("%s", "  ".join(row[column].ljust(width) for column, width in zip(kept, widths, strict=True)))
    sizes = Counter(seen.size for seen in dataset_report.files.values() if seen.size)
    if sizes:
        (width, height), most = sizes.most_common(1)[0]
        logger.info("Images: %d sizes, most are %d x %d (%d files)", len(sizes), width, height, most)
    for kind, lines in [*dataset_report.faults.items(), *dataset_report.notes.items()]:
        logger.info("\n%s (%s)", kind, len(lines) if kind in dataset_report.faults else f"{len(lines)}, a note")
        for line in lines[:examples]:
            logger.info("  %s", line)
        if len(lines) > examples:
            logger.info("  ... and %d more", len(lines) - examples)
    empty = [split for split in SPLITS[:2] if not dataset_report.splits.get(split)]
    if dataset_report.faults or empty:
        what = [*dataset_report.faults, *(f"no image in split {split}" for split in empty)]
        logger.info("\nTo be mended before %s trains on it: %s", bundle, ", ".join(what))
        return 1
    for line in advice(dataset_report, bundle):
        logger.info("\n%s", line)
    logger.info("\n%s can train on it.", bundle)
    return 0


def advice(dataset_report: DatasetReport, bundle: str) -> list[str]:
    """What a training on the data set should know beforehand: of reports that lack, and of few cases."""
    cases, lines = dataset_report.splits.get("train", []), []
    if bundle == "akessfa" and not any(case.get("report") for case in cases):
        lines.append("no training case has a report: akessfa learns from the image alone")
    folder = installed(bundle)
    if folder is not None:
        batch = json.loads((folder / "configs" / "train.json").read_text(encoding="utf-8"))["batch_size"]
        if len(cases) < batch:
            lines.append(f"{len(cases)} training cases: fewer than a batch; pass --batch_size {len(cases)} or less")
    return lines


def table_of(dataset_report: DatasetReport, root: Path) -> list[dict[str, str]]:
    """The data set as rows of ``cases.csv`` (:mod:`common.datasets.table`).

    Raises:
        ValueError: masks that are no files.
    """

    def within(name: str) -> str:
        return Path(os.path.relpath(os.path.abspath(name), os.path.abspath(root))).as_posix()

    rows = []
    for split, cases in dataset_report.splits.items():
        for case in cases:
            row = {f"image_{n}": within(name) for n, name in enumerate(images_of(case), start=1)}
            if "image" in case:
                if not isinstance(case["label"], str):
                    raise ValueError("--table: the masks of this layout are polygons and no files")
                row = {"image": within(case["image"]), "mask": within(case["label"])}
                row |= {name: case[name] for name in ("tirads", "malignant") if case.get(name)}
            who = str(case.get("case", case.get("study")))
            row |= {name: json.dumps(case[name]) for name in ("boxes", "scores", "box_labels") if case.get(name)}
            templated = TEMPLATED in dataset_report.notes  # templates are no reports to keep
            text = "" if templated else case.get("report") or ""
            rows.append({**row, "report": text, "patient_id": who, "split": split})
    return rows


def manifest(dataset_report: DatasetReport, root: str) -> dict[str, Any]:
    """Bytes, time of change, decoded size and SHA-256 of every file of ``root``, and what is wrong with the others."""
    there = {name: {"bytes": seen.bytes, "mtime": seen.mtime} for name, seen in dataset_report.files.items()}
    reasons = {name: seen.error for name, seen in dataset_report.files.items() if seen.error}
    for pair in unlike_pairs(dataset_report):
        reasons |= dict.fromkeys(pair, "mask and image of different sizes")
    sound = {
        name: {**there[name], "size": seen.size, "sha256": seen.digest}
        for name, seen in dataset_report.files.items() if not seen.error
    }  # fmt: skip
    damaged = {name: {"reason": reason, **there[name]} for name, reason in reasons.items()}
    return {"layout": dataset_report.layout, **manifest_of(root, sound, damaged)}
