"""One page about a run, from the files in its folder: metrics with intervals, curves, cases, worst and best first.

``python -m common.visualize RUN_FOLDER`` writes ``RUN_FOLDER/index.html``; evaluation and inference do so as they end.
"""

from __future__ import annotations

import csv
import html
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from common import visualize
from common.datasets.files import open_image, to_grey
from common.progress import number as to_number
from common.progress import read_history

logger = logging.getLogger(__name__)
PAGES = 24  # cases shown at most, half of them the worst
SIZES = {"area_mm2": "area {:.0f} mm²", "long_axis_mm": "long axis {:.1f} mm", "short_axis_mm": "short axis {:.1f} mm"}
COLOURS = ("#1662a0", "#d2691e", "#2e8b57", "#8b3a8b", "#b8860b", "#5b6570")
RESAMPLES = 1000


def write_page(folder: Path, *, title: str | None = None, note: str | None = None) -> Path:
    """Write ``folder/index.html``, which needs no other file and no network.

    Args:
        title, note: kept in ``page.json`` for the next time; None: as they were.

    Raises:
        FileNotFoundError: the folder has neither predictions nor metrics.
    """
    known = _read_json(folder / "page.json", {})
    about = {"title": title or known.get("title", "A run"), "note": note or known.get("note", "")}
    predictions = _read_json(folder / "predictions.json", [])
    metrics = _read_json(folder / "metrics.json", {})
    if not predictions and not metrics:
        raise FileNotFoundError(f"{str(folder)!r}: neither predictions.json nor metrics.json; evaluate or infer first")
    cases = read_cases(folder / "per_case.csv")
    sections = [
        summary(predictions, about["note"]),
        *_figures(folder, metrics, cases),
        *shown(folder, predictions, cases),
    ]
    (folder / "page.json").write_text(json.dumps(about, ensure_ascii=False), encoding="utf-8")
    path = folder / "index.html"
    path.write_text(visualize.page_html(about["title"], *sections), encoding="utf-8")
    return path


def summary(predictions: Sequence[Mapping], note: str) -> str:
    """What the page shows, and what it is not for."""
    count = f"{len(predictions)} predictions. " if predictions else ""
    return f"<p><small>{count}{html.escape(note)} For research, not for clinical use.</small></p>"


def read_cases(path: Path) -> dict[str, dict[str, float]]:
    """Values of each case of ``per_case.csv``, by its name."""
    if not path.is_file():
        return {}
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    cases = {row.pop("case"): row for row in rows if row.get("case")}
    return {
        case: {name: value for name, text in row.items() if name and (value := to_number(text)) is not None}
        for case, row in cases.items()
    }


def _figures(folder: Path, metrics: Mapping[str, float], cases: Mapping[str, Mapping]) -> list[str]:
    places = (folder, folder / "models", folder.parent / "models")
    history = next((rows for place in places if (rows := read_history(str(place / "history.csv")))), [])
    sections = []
    if metrics:
        sections.append(visualize.section_html("Metrics", metrics_table(metrics, cases)))
    if history:
        sections.append(visualize.section_html("Training", curves(history)))
    return sections


def metrics_table(metrics: Mapping[str, float], cases: Mapping[str, Mapping[str, float]]) -> str:
    """Each metric; where it is the mean over cases, with its 95 % interval (percentile bootstrap of cases)."""
    rows = []
    for name, value in metrics.items():
        own = np.array([case[name] for case in cases.values() if name in case])
        own = own[np.isfinite(own)]
        interval = ""
        if len(own) > 1 and abs(own.mean() - value) < 1e-3 * max(1.0, abs(value)):
            draws = np.random.default_rng(0).integers(0, len(own), (RESAMPLES, len(own)))
            low, high = np.percentile(own[draws].mean(1), [2.5, 97.5])
            interval = f"{low:.3f} to {high:.3f}"
        rows.append(f"<tr><th>{html.escape(name)}</th><td>{value:.3f}</td><td>{interval}</td></tr>")
    head = f"<tr><th></th><th>value</th><th>95 % interval over {len(cases)} cases</th></tr>" if cases else ""
    return f'<div class="wide"><table>{head}{"".join(rows)}</table></div>'


def curves(history: Sequence[Mapping[str, float]]) -> str:
    """Line charts (SVG) of the losses and of the validation's metrics over the epochs."""
    names = list(dict.fromkeys(name for row in history for name in row if name != "epoch"))
    groups = {kind: [n for n in names if n.startswith(kind)] for kind in ("loss", "validation")}
    return "".join(_chart(kind, own, history) for kind, own in groups.items() if own)


def _chart(kind: str, names: Sequence[str], history: Sequence[Mapping[str, float]]) -> str:
    points = {n: [(row["epoch"], row[n]) for row in history if n in row and np.isfinite(row[n])] for n in names}
    values = [value for own in points.values() for _, value in own] or [0.0]
    low, high, last = min(values), max(values), max(row["epoch"] for row in history)
    spread, width = max(high - low, 1e-12), max(last - 1, 1)
    lines, legend = [], []
    for index, (name, own) in enumerate(points.items()):
        colour = COLOURS[index % len(COLOURS)]
        places = " ".join(f"{50 + 540 * (e - 1) / width:.1f},{20 + 180 * (1 - (v - low) / spread):.1f}" for e, v in own)
        lines.append(f'<polyline points="{places}" fill="none" stroke="{colour}" stroke-width="2"/>')
        if len(own) == 1:
            x, _, y = places.partition(",")
            lines.append(f'<circle cx="{x}" cy="{y}" r="3" fill="{colour}"/>')
        legend.append(f'<span style="color:{colour}">● {html.escape(name.removeprefix(kind + " "))}</span>')
    axis = (
        '<line x1="50" y1="200" x2="590" y2="200" stroke="#9aa4ae"/><line x1="50" y1="20" x2="50" y2="200" '
        f'stroke="#9aa4ae"/><text x="44" y="26" text-anchor="end">{high:.3g}</text><text x="44" y="204" '
        f'text-anchor="end">{low:.3g}</text><text x="50" y="220">epoch 1</text><text x="590" y="220" '
        f'text-anchor="end">{last:.0f}</text>'
    )
    chart = f'<svg viewBox="0 0 600 230" role="img" aria-label="{kind} over epochs">{axis}{"".join(lines)}</svg>'
    return f"<figure><figcaption>{kind}: {' '.join(legend)}</figcaption>{chart}</figure>"


def shown(folder: Path, predictions: Sequence[dict], cases: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Sections of the cases: the worst and the best by the first value of ``cases``; without values in their order."""
    column = next((name for case in cases.values() for name in case), None)
    scored = [(cases[n][column], e) for e in predictions if column and column in cases.get(n := _name(e), {})]
    scored = sorted((pair for pair in scored if np.isfinite(pair[0])), key=lambda pair: pair[0])
    if not scored:
        return [case_section(folder, entry) for entry in predictions[:PAGES]]
    worst = scored[: max(1, min(PAGES, len(scored)) // 2)]
    best = scored[len(worst) :][::-1][: PAGES - len(worst)]
    parts = []
    for kind, pairs in (("Worst", worst), ("Best", best)):
        parts += [f'<h2 class="group">{kind} cases by {html.escape(str(column))}</h2>'] if pairs else []
        parts += [case_section(folder, entry, f"{column} {value:.3f}") for value, entry in pairs]
    return parts


def _name(entry: Mapping[str, Any]) -> str:
    return str(entry.get("study", entry.get("image", "")))


def case_section(folder: Path, entry: dict, score: str = "") -> str:
    """One prediction: pictures, what was found, the report."""
    regions = report(entry)
    lively = 'class="regions"' in regions
    skipped = {*KEYS, "mask", *(["lesions"] if lively else [])}
    files = [v for k, v in entry.items() if isinstance(v, str) and v.endswith(".png") and k not in skipped]
    pictures = [picture for file in files if _inside(folder, file) and (picture := _opened(folder / file))]
    figure = visualize.image_html(visualize.side_by_side(pictures), facts(entry)) if pictures else ""
    if lively and figure:
        figure = f"<details><summary>where each sentence looks in the image</summary>{figure}</details>"
    title = Path(_name(entry)).name + (f": {score}" if score else "")
    return visualize.section_html(title, *([regions, figure] if lively else [figure, regions]))


KEYS = ("image", "images", "study", "report", "phrase")


def facts(entry: Mapping[str, Any]) -> str:
    """Class, probability, sizes, phrase, in one line."""
    said = [f"{entry['class']}, probability of malignant {entry['prob']:.2f}"] if "class" in entry else []
    said += [str(entry["phrase"])] if entry.get("phrase") else []
    said += [text.format(entry[name]) for name, text in SIZES.items() if name in entry]
    said += [f"topic: {', '.join(entry['topic'])}"] if entry.get("topic") else []
    said += ["text or calipers may be burned in"] if entry.get("burned_in_text", False) is not False else []
    return "; ".join(said)


def report(entry: Mapping[str, Any]) -> str:
    """The report: words shaded by their probability, or sentences that light up the regions they look at."""
    if "words" in entry:
        if not entry["words"]:
            return "<p><small>No report: segmented from the image alone.</small></p>"
        spans = [(word["start"], word["end"]) for word in entry["words"]]
        return visualize.report_html(entry["report"], spans, [word["probability"] for word in entry["words"]])
    if "sentences" not in entry:
        return ""
    boxes = entry.get("boxes") or []
    lines = [_sentence(sentence, boxes) for sentence in entry["sentences"]]
    listing = f"<ol>{''.join(lines)}</ol>"
    picture = _regions(entry, boxes) if boxes and any("regions" in s for s in entry["sentences"]) else ""
    return f'<div class="regions">{picture}{listing}</div>' if picture else listing


def _sentence(sentence: Mapping[str, Any], boxes: Sequence[Mapping]) -> str:
    shares = sentence.get("regions", [])
    seen = ", ".join(f"{k}: {b.get('label') or 'lesion'} {s:.0%}" for k, (b, s) in enumerate(zip(boxes, shares), 1))  # noqa: B905 (boxes beyond the network's regions)
    about = f"{sentence['probability']:.2f}" + (f"; {html.escape(seen)}" if seen else "")
    data = html.escape(json.dumps(shares)) if shares else ""
    focus = f' tabindex="0" data-shares="{data}"' if data else ""
    return f"<li{focus}>{html.escape(sentence['text'])} <small>{about}</small></li>"


def _regions(entry: Mapping[str, Any], boxes: Sequence[Mapping]) -> str:
    """The first image with its boxes as elements that the page's script lights up; nothing if the image is gone."""
    try:
        image = to_grey(open_image(entry["images"][0]))
    except (OSError, ValueError):
        return ""
    frames = []
    for number, box in enumerate(boxes, start=1):
        left, top, width, height = (
            100 * part / whole for part, whole in zip(box["box"], (*image.size, *image.size), strict=True)
        )
        place = f"left:{left:.2f}%;top:{top:.2f}%;width:{width:.2f}%;height:{height:.2f}%"
        frames.append(f'<b style="{place}" data-region="{number - 1}">{number}</b>')
    image.thumbnail((512, 512))
    figure = visualize.image_html(image.convert("RGB"), "point at a sentence: the lesions it looks at")
    return figure.replace("<img", '<span class="frames"><img', 1).replace(
        "<figcaption", f"{''.join(frames)}</span><figcaption", 1
    )


def _opened(path: Path) -> Image.Image | None:
    """The picture, None of a damaged file."""
    try:
        return Image.open(path).convert("RGB")
    except (OSError, SyntaxError, ValueError):
        return None


def _inside(folder: Path, file: str) -> bool:
    return (folder / file).resolve().is_relative_to(folder.resolve()) and (folder / file).is_file()


def _read_json(path: Path, otherwise: Any) -> Any:
    try:
        content = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else otherwise
    except ValueError as error:
        raise ValueError(f"{str(path)!r} is no JSON ({error}); run the evaluation or inference again") from error
    return otherwise if content is None else content


def main() -> None:
    import argparse

    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(prog="python -m common.visualize", description=__doc__)
    parser.add_argument("folder", type=Path, help="output_dir of an evaluation or inference")
    folder = parser.parse_args().folder
    try:
        logger.info("%s", write_page(folder))
    except (FileNotFoundError, ValueError) as error:
        raise SystemExit(str(error)) from error
