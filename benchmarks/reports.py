"""What the benchmarks of report generation share: two baselines without a generator, trainings, one table.

Baselines: the most frequent training report, and the report of the training study whose views are most alike (cosine of
32x32 thumbnails, mean removed).
"""

from __future__ import annotations

import csv
import json
from collections import Counter
from collections.abc import Sequence
from math import isfinite
from pathlib import Path

import numpy as np

from benchmarks.ablations import folder_of, paired_gain, run
from common.datasets.studies import read_studies
from common.images.files import open_image, to_grey
from common.metrics.reports import report_metrics
from common.metrics.text import cider_d_each, rouge_l, tokens_of

BASELINES = ("most frequent report", "nearest neighbour")
TEXT = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "meteor_nltk", "rouge_l", "cider_d", "entity_accuracy", "entity_f1")


def thumbnail(images: list[str], views: int) -> np.ndarray:
    """Unit vector of a study's views, one after the other; missing ones are black."""
    parts = [np.zeros(32 * 32)] * (views - len(images))
    for name in images:
        small = to_grey(open_image(name)).resize((32, 32))
        parts.append(np.asarray(small, dtype=np.float64).ravel())
    vector = np.concatenate(parts)
    vector -= vector.mean()
    return vector / max(np.linalg.norm(vector), 1e-12)


def baseline(name: str, data: str, folder: Path, *, views: int, organ: str, annotation: str | None = None) -> None:
    """Write ``metrics.json``, ``per_case.csv`` and ``reports.csv`` of one baseline on the test split."""
    training, test = (read_studies(data, split, views=views, annotation=annotation) for split in ("train", "test"))
    if name == "nearest neighbour":
        known = np.stack([thumbnail(study["images"], views) for study in training])
        nearest = [int((known @ thumbnail(study["images"], views)).argmax()) for study in test]
        written = [training[index]["report"] for index in nearest]
    else:
        written = [Counter(study["report"] for study in training).most_common(1)[0][0]] * len(test)
    references = [study["report"] for study in test]
    metrics = report_metrics(written, references, organ=organ, training=[study["report"] for study in training])
    folder.mkdir(parents=True, exist_ok=True)
    defined = {key: value if isfinite(value) else None for key, value in metrics.items()}
    (folder / "metrics.json").write_text(json.dumps(defined, indent=2))
    sides = [tokens_of(text) for text in written], [tokens_of(text) for text in references]
    scores = [rouge_l([w], [r]) for w, r in zip(*sides, strict=True)]
    with open(folder / "per_case.csv", "w", newline="") as file:
        rows = zip((study["study"] for study in test), scores, cider_d_each(*sides), strict=True)
        csv.writer(file).writerows([("case", "rouge_l", "cider_d"), *rows])
    with open(folder / "reports.csv", "w", newline="", encoding="utf-8") as file:
        rows = zip((study["study"] for study in test), written, strict=True)
        csv.writer(file).writerows([("study", "report"), *rows])


def measure(bundle: str, variant: list[str], folder: Path, overrides: list[str], evaluation: list[str]) -> None:
    """Train with the configs ``variant``, unless metrics are there, and evaluate on the test split."""
    if (folder / "metrics.json").is_file():
        return
    configs, places = ["train.json", *variant], ["--ckpt_dir", str(folder), "--output_dir", str(folder)]
    run(bundle, configs, *places, *overrides)
    run(bundle, [*configs, "evaluate.json"], *places, *overrides, *evaluation)


def of_seeds(out: Path, name: str, seeds: list[int], column: str, *, same_data: bool) -> dict[str, list[float]]:
    """``column`` of each study, a value for each seed that has it; seeds of drawn data have studies of their own."""
    groups: dict[str, list[float]] = {}
    for seed in seeds:
        with open(folder_of(out, name, seed) / "per_case.csv", newline="") as file:
            for row in csv.DictReader(file):
                key = row["case"] if same_data else f"{seed} {row['case']}"
                groups.setdefault(key, []).append(float(row[column]))
    return groups


def table(
    out: Path,
    names: list[str],
    seeds: list[int],
    *,
    columns: Sequence[str],
    gains: Sequence[tuple[str, str]],
    same_data: bool,
) -> str:
    """Means of ``columns`` over seeds (standard deviation in brackets), and ``gains``: a column less that of a variant,
    paired, of all seeds' studies together.
    """
    rows = [" | ".join(["variant", "seeds", *columns, *(f"{column} less {name}" for name, column in gains)])]
    for name in names:
        metrics = [json.loads((folder_of(out, name, seed) / "metrics.json").read_text()) for seed in seeds]
        cells = []
        for column in columns:
            values = [m[column] for m in metrics if m.get(column) is not None]
            spread = f" ({np.std(values, ddof=1):.3f})" if len(values) > 1 else ""
            cells.append(f"{np.mean(values):.3f}{spread}" if values else "-")
        for reference, column in gains:
            pair = [of_seeds(out, n, seeds, column, same_data=same_data) for n in (name, reference) if n in names]
            cells.append(paired_gain(*pair) if len(pair) == 2 and name != reference else "-")
        rows.append(" | ".join([name, str(len(seeds)), *cells]))
    return "\n".join(rows)
