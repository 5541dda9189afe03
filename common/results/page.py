"""One page about a run, from the files in its folder: headlines, numbers with intervals, curves, cases.

``python -m common.visualize RUN_FOLDER`` writes ``RUN_FOLDER/index.html``; evaluation and inference do so as they end.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common.cli.atomic import write_json, write_text
from common.cli.reading import read_text
from common.engine.progress import parse_number, read_history
from common.metrics.intervals import intervals_of
from common.results import charts
from common.results.blocks import Block, Section, chart, folded, render, table, text
from common.results.case_sections import case_sections
from common.results.metric_words import WORDS, headlines, meaning_of, name_of
from common.results.sizes import PREDICTED, TRUE
from common.results.strata import strata_table

FROC_POINT = re.compile(r"sensitivity_at_([\d.]+)_fp")
SPREAD = ("dice", "iou", "nsd", "bleu_4", "rouge_l")  # columns of per_case.csv in [0, 1] whose spread is drawn


def write_page(
    folder: Path, *, title: str | None = None, note: str | None = None, evaluated: str | None = None
) -> Path:
    """Write ``folder/index.html``.

    Args:
        title, note, evaluated: kept in ``page.json`` for the next time; None: as they were. ``evaluated`` says what the
            metrics are of.

    Raises:
        FileNotFoundError: the folder has neither predictions nor metrics.
    """
    known = _read_json(folder / "page.json", {})
    about = {"title": title or known.get("title", "A run"), "note": note or known.get("note", "")}
    about["evaluated"] = evaluated or known.get("evaluated", "")
    predictions = _read_json(folder / "predictions.json", [])
    metrics = _read_json(folder / "metrics.json", {})
    if not any((folder / name).is_file() for name in ("predictions.json", "metrics.json")):
        raise FileNotFoundError(f"{str(folder)!r}: neither predictions.json nor metrics.json; evaluate or infer first")
    cases, patients = read_cases(folder / "per_case.csv")
    sections = [
        *summaries(metrics, cases, patients, about["evaluated"], strata_table(folder)),
        *(_training(folder) if metrics else []),
        *case_sections(folder, predictions, cases),
    ]
    write_json(folder / "page.json", about)
    several = "s" if len(predictions) > 1 else ""
    count = f"{len(predictions)} prediction{several}. " if predictions else ""
    if not predictions and not metrics:
        count = "No prediction; failures.json says what was left out. "
    path, said = folder / "index.html", f"{count}{about['note']} For research, not for clinical use."
    write_text(path, render(about["title"], sections, note=said))
    return path


def read_cases(path: Path) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
    """Values of each case of ``per_case.csv``, and its patient where the file tells, both by the case's name."""
    if not path.is_file():
        return {}, {}
    rows = list(csv.DictReader(io.StringIO(read_text(path, what="per_case.csv"), newline="")))
    times: Counter[str] = Counter()
    cases = {}
    for row in rows:
        if name := row.pop("case", None):
            times[name] += 1
            cases[name if times[name] == 1 else f"{name} ({times[name]})"] = row  # several phrases of one image
    patients = {case: patient for case, row in cases.items() if (patient := row.pop("patient", None))}
    values = {
        case: {name: value for name, text in row.items() if name and (value := parse_number(text)) is not None}
        for case, row in cases.items()
    }
    return values, patients


def summaries(
    metrics: Mapping[str, float | None],
    cases: Mapping[str, Mapping[str, float]],
    patients: Mapping[str, str],
    evaluated: str = "",
    groups: Sequence[Block] = (),
) -> list[Section]:
    """Headlines in words, the spread of the cases, ``groups`` of them, and all numbers, folded."""
    if not metrics:
        return []
    blocks = [text(f"{evaluated}.")] if evaluated else []
    if chosen := headlines(name for name, value in metrics.items() if value is not None):
        intervals = intervals_of(metrics, cases, patients)
        blocks.append({"kind": "headlines", "numbers": [_headline(name, metrics, intervals) for name in chosen]})
    reached = {
        float(name[1]): value
        for key, value in metrics.items()
        if value is not None and (name := FROC_POINT.fullmatch(key))
    }
    blocks += [chart(charts.froc(reached), "lesions that are found, and false boxes")] if len(reached) > 1 else []
    blocks += [*_charts(cases), *groups, folded("all numbers", metrics_table(metrics, cases, patients))]
    return [Section("How good it is", blocks)]


def _headline(
    name: str, metrics: Mapping[str, float | None], intervals: Mapping[str, tuple[float, float]]
) -> dict[str, str]:
    low, high = intervals.get(name, (np.nan, np.nan))
    interval = f"95 % interval {format_number(low)} to {format_number(high)}" if name in intervals else ""
    return {
        "name": name_of(name), "value": format_number(metrics[name] or 0.0), "interval": interval,
        "meaning": meaning_of(name),
    }  # fmt: skip


def format_number(value: float) -> str:
    """Two decimals, one from 10 on."""
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def _charts(cases: Mapping[str, Mapping[str, float]]) -> list[Block]:
    """What the columns of ``per_case.csv`` allow."""
    columns: dict[str, list[float]] = {}
    for case in cases.values():
        for name, value in case.items():
            if np.isfinite(value):
                columns.setdefault(name, []).append(value)
    drawn = {name: columns[name] for name in SPREAD if len(columns.get(name, ())) > 2}
    blocks = [chart(charts.distribution(drawn), "each case; the box holds the middle half")] if drawn else []
    for unit in ("mm", "px"):
        sizes = [(case.get(PREDICTED.format(unit), 0), case.get(TRUE.format(unit), 0)) for case in cases.values()]
        both = np.array([pair for pair in sizes if min(pair) > 0])
        if len(both) > 2:
            caption = "long axes: each dot is a case in which a nodule is there and outlined"
            blocks.append(chart(charts.agreement(both[:, 0], both[:, 1], unit), caption))
    told = [(case.get("malignancy", np.nan), case.get("prob", np.nan)) for case in cases.values()]
    pairs = [pair for pair in told if np.isfinite(pair).all()]
    labels, probabilities = np.array(pairs).reshape(-1, 2).T
    if len(set(labels.tolist())) == 2:
        blocks.append(chart(charts.classification(labels, probabilities), "images of the split"))
        calibrated = np.array([case.get("prob_calibrated", np.nan) for case in cases.values()])
        said = calibrated if len(calibrated) == len(labels) and np.isfinite(calibrated).all() else probabilities
        worth = "what acting on the network is worth, in malignancies found an image; false alarms are taken off"
        blocks.append(folded("decision curve", chart(charts.decision_curve(labels, said), worth)))
    return blocks


def metrics_table(
    metrics: Mapping[str, float | None], cases: Mapping[str, Mapping[str, float]], patients: Mapping[str, str]
) -> Block:
    """Each metric; where it is the mean over cases, with its 95 % interval (percentile bootstrap of patients)."""
    drawn = f"{len(set(patients.values()))} patients" if patients else f"{len(cases)} cases"
    header = ("", "value", f"95 % interval over {drawn}", "what it means") if cases else ()
    intervals = intervals_of(metrics, cases, patients)
    rows = [
        (name, "undefined" if value is None else f"{value:.3f}", "{:.3f} to {:.3f}".format(*intervals[name])
         if name in intervals else "", WORDS[name].meaning if name in WORDS else "")
        for name, value in metrics.items()
    ]  # fmt: skip
    return table(rows, header=header)


def _training(folder: Path) -> list[Section]:
    folders = (folder, folder / "models", folder.parent / "models")
    history = next((rows for where in folders if (rows := read_history(str(where / "history.csv")))), [])
    return [Section("Training", curves(history))] if history else []


def curves(history: Sequence[Mapping[str, float]]) -> list[Block]:
    """Line charts of the losses and of the validation's metrics over the epochs."""
    names = list(dict.fromkeys(name for row in history for name in row if name != "epoch"))
    groups = {kind: [n for n in names if n.startswith(kind)] for kind in ("loss", "validation")}
    return [
        chart(charts.curves(kind, group, history), f"{kind} over epochs") for kind, group in groups.items() if group
    ]


def _read_json(path: Path, otherwise: Any) -> Any:
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else otherwise
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is no JSON ({error}); run the evaluation or inference again") from error
    return otherwise if content is None else content
