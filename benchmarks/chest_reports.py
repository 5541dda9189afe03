"""Reports of real chest X-rays, judged by the findings that they state: sgf and d2rnet beside two baselines.

``python -m benchmarks.real --data FOLDER --out runs/real --only iu_xray`` with ``iu_xray`` (R2Gen's form, two views) in
FOLDER. Each study of the test split counts once; F1 of CheXpert's 14 observations by the rules of
:mod:`common.metrics.observations`; 95 % percentile bootstraps over studies, differences paired. The last column: mean
ROC AUC of the findings that the network tells from the images, of those that five test reports or more state.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.ablations import folder_of, run
from benchmarks.reports import BASELINES, baseline
from common.engine.stated_findings import stated_in
from common.metrics.observations import positives
from common.metrics.reports import variety
from common.metrics.text import text_metrics

FINDINGS: dict[str, object] = {"findings": 10, "min_count": 3, "max_length": 60, "views": 2, "epochs": 18}
OPTIONS: dict[str, dict[str, object]] = {
    "sgf": {**FINDINGS, "clusters": 10, "visual_learning_rate": 0.0001},
    "d2rnet": {**FINDINGS, "encoder_learning_rate": 0.0001},
}
FEWEST = 5  # reports of the test that state a finding, to count its AUC
RESAMPLES = 2000
Score = Callable[[np.ndarray, np.ndarray], float]


def macro_f1(said: np.ndarray, true: np.ndarray) -> float:
    """Mean F1 over the observations (N, 14) that either side states."""
    both, all_said = (said & true).sum(0), said.sum(0) + true.sum(0)
    return float((2 * both / np.maximum(all_said, 1))[all_said > 0].mean())


def micro_f1(said: np.ndarray, true: np.ndarray) -> float:
    """F1 of all observations (N, 14) together."""
    return float(2 * (said & true).sum() / max(said.sum() + true.sum(), 1))


def interval(values: Sequence[float]) -> str:
    """95 % percentiles."""
    low, high = np.percentile(values, [2.5, 97.5])
    return f"[{low:.3f}, {high:.3f}]"


def resampled(score: Score, said: np.ndarray, true: np.ndarray) -> np.ndarray:
    """``score`` of :data:`RESAMPLES` draws of the studies, the same ones for whatever is said of as many studies."""
    draws = np.random.default_rng(0).integers(0, len(true), (RESAMPLES, len(true)))
    return np.array([score(said[draw], true[draw]) for draw in draws])


def written_by(bundle: str, data: Path, out: Path, seed: int) -> list[dict]:
    """Entries of ``predictions.json`` of the test split, by a network that is trained unless it is there."""
    folder = folder_of(out, f"{bundle} iu_xray", seed)
    given = {"ckpt_dir": folder, "output_dir": folder / "test", "dataset_dir": data / "iu_xray", "seed": seed}
    if not (folder / "done").is_file():
        run(bundle, ["train.json"], *(f"--{name}={value}" for name, value in {**given, **OPTIONS[bundle]}.items()))
        (folder / "done").touch()
    if not (folder / "test" / "predictions.json").is_file():
        del given["seed"]
        run(bundle, ["inference.json"], *(f"--{name}={value}" for name, value in given.items()), "--batch_size=16")
    return json.loads((folder / "test" / "predictions.json").read_text(encoding="utf-8"))


def figures_of(reports: Sequence[str], references: Sequence[str]) -> dict[str, float]:
    """What is written of the test split, as ``figures.json`` has it."""
    words = text_metrics(reports, references)
    return {
        **{key: words[key] for key in ("bleu_4", "rouge_l", "cider_d")},
        "distinct_reports": variety(reports, [])["distinct_reports"],
        "f1_14_macro": macro_f1(positives(reports), positives(references)),
    }


def figures_anew(data: Path, out: Path, bundle: str) -> dict[str, float]:
    """:func:`figures_of` a network that is trained unless it is there, and F1 of the baselines beside it."""
    entries = sorted(written_by(bundle, data, out, 0), key=lambda entry: entry["study"])
    references = [entry["reference"] for entry in entries]
    figures = figures_of([entry["report"] for entry in entries], references)
    for name in BASELINES:
        said = positives(_of_baseline(name, data, out, 0))
        figures[f"{name.replace(' ', '_')}_f1_14_macro"] = macro_f1(said, positives(references))
    return figures


def _of_baseline(name: str, data: Path, out: Path, seed: int) -> list[str]:
    """Reports of a baseline, in the order of the studies' names."""
    folder = folder_of(out, f"{name} iu_xray", seed)
    baseline(name, str(data / "iu_xray"), folder, views=2, organ="chest")
    with open(folder / "reports.csv", newline="", encoding="utf-8") as file:
        return [row["report"] for row in sorted(csv.DictReader(file), key=lambda row: row["study"])]


def finding_auc(entries: Sequence[dict]) -> float:
    """Mean ROC AUC of the findings of :data:`FEWEST` references or more."""
    stated = [stated_in(entry["reference"], "chest") for entry in entries]
    areas = []
    for position, finding in enumerate(entries[0]["findings"]):
        true = [finding["name"] in names for names in stated]
        if FEWEST <= sum(true) < len(true):
            areas.append(roc_auc_score(true, [entry["findings"][position]["probability"] for entry in entries]))
    return float(np.mean(areas)) if areas else float("nan")


def report_chests(data: Path, out: Path, seed: int) -> str:
    """The table of one seed."""
    texts: dict[str, list[str]] = {}
    areas: dict[str, float] = {}
    references: list[str] = []
    for bundle in OPTIONS:
        entries = sorted(written_by(bundle, data, out, seed), key=lambda entry: entry["study"])
        references = [entry["reference"] for entry in entries]
        texts[bundle], areas[bundle] = [entry["report"] for entry in entries], finding_auc(entries)
    for name in BASELINES:
        texts[name] = _of_baseline(name, data, out, seed)
    return _table(texts, references, areas)


def _table(texts: dict[str, list[str]], references: list[str], areas: dict[str, float]) -> str:
    true = positives(references)
    said = {name: positives(reports) for name, reports in texts.items()}
    columns = (
        "BLEU-4",
        "ROUGE-L",
        "CIDEr-D",
        "distinct",
        "macro F1-14",
        "micro F1-14",
        "macro less nearest",
        "findings, AUC",
    )
    rows = [" | ".join(["iu_xray", *columns])]
    for name, reports in texts.items():
        figures = figures_of(reports, references)
        cells = [f"{figures[key]:.3f}" for key in ("bleu_4", "rouge_l", "cider_d", "distinct_reports")]
        for score in (macro_f1, micro_f1):
            cells.append(f"{score(said[name], true):.3f} {interval(resampled(score, said[name], true))}")
        nearest = resampled(macro_f1, said["nearest neighbour"], true)
        cells.append(interval(resampled(macro_f1, said[name], true) - nearest))
        cells.append(f"{areas[name]:.3f}" if name in areas else "-")
        rows.append(" | ".join([name, *cells]))
    return "\n".join(rows)
