"""One page about a run, from the files in its folder: metrics with intervals, curves, cases, worst and best first.

``python -m common.visualize RUN_FOLDER`` writes ``RUN_FOLDER/index.html``; evaluation and inference do so as they end.
A page is a list of sections, a section a list of blocks; ``page.html.j2`` says how each looks, and escapes it.
"""

from __future__ import annotations

import base64
import csv
import io
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import numpy as np
from PIL import Image

from common.cli.atomic import write_json, write_text
from common.engine.progress import number as to_number
from common.engine.progress import read_history
from common.images.files import open_image, to_grey
from common.metrics.intervals import intervals_of
from common.results.drawing import pieces_of, shade, side_by_side

Block = dict[str, Any]  # ``kind`` and what page.html.j2 shows of it
PAGES = 24  # cases shown at most, half of them the worst
SIZES = {"area_mm2": "area {:.0f} mm²", "long_axis_mm": "long axis {:.1f} mm", "short_axis_mm": "short axis {:.1f} mm"}
COLOURS = ("#1662a0", "#d2691e", "#2e8b57", "#8b3a8b", "#b8860b", "#5b6570")
KEYS = ("image", "images", "study", "report", "phrase")


class Section(NamedTuple):
    """A titled box of a page; ``group`` is a heading above it."""

    title: str
    blocks: Sequence[Block]
    group: str = ""


def render(title: str, sections: Sequence[Section], *, note: str = "") -> str:
    """HTML that needs no other file and no network."""
    return _template().render(title=title, sections=[section._asdict() for section in sections], note=note)


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(Path(__file__).with_name("page.html.j2").read_text(encoding="utf-8"))


def figure(picture: Image.Image, caption: str) -> Block:
    """A picture inside the page, as JPEG: a tenth of what PNG takes for speckle."""
    return {"kind": "figure", "source": _embedded(picture), "caption": caption}


def _embedded(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, format="JPEG", quality=90, subsampling=0)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def text(content: str) -> Block:
    """A paragraph."""
    return {"kind": "text", "text": content}


def table(rows: Sequence[Sequence[object]], *, header: Sequence[str] = ()) -> Block:
    """Rows whose first cell is a name; numbers with three decimals."""
    return {"kind": "table", "header": header, "rows": [[_cell(value) for value in row] for row in rows]}


def _cell(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def words(report: str, spans: Sequence[tuple[int, int]], scores: Sequence[float]) -> Block:
    """A report, each token shaded by its score in [0, 1], which is its tooltip."""
    pieces = pieces_of(report, spans, scores)
    shaded = [
        {"text": piece, "colour": score is not None and f"rgb{shade(score)}", "score": f"{score or 0:.2f}"}
        for piece, score in pieces
    ]
    return {"kind": "words", "pieces": shaded}


def write_page(folder: Path, *, title: str | None = None, note: str | None = None) -> Path:
    """Write ``folder/index.html``.

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
    cases, patients = read_cases(folder / "per_case.csv")
    sections = [*_summaries(folder, metrics, cases, patients), *case_sections(folder, predictions, cases)]
    write_json(folder / "page.json", about)
    count = f"{len(predictions)} predictions. " if predictions else ""
    path, said = folder / "index.html", f"{count}{about['note']} For research, not for clinical use."
    write_text(path, render(about["title"], sections, note=said))
    return path


def read_cases(path: Path) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
    """Values of each case of ``per_case.csv``, and its patient where the file tells, both by the case's name."""
    if not path.is_file():
        return {}, {}
    with open(path, newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    times: Counter[str] = Counter()
    cases = {}
    for row in rows:
        if name := row.pop("case", None):
            times[name] += 1
            cases[name if times[name] == 1 else f"{name} ({times[name]})"] = row  # several phrases of one image
    patients = {case: patient for case, row in cases.items() if (patient := row.pop("patient", None))}
    values = {
        case: {name: value for name, text in row.items() if name and (value := to_number(text)) is not None}
        for case, row in cases.items()
    }
    return values, patients


def _summaries(
    folder: Path, metrics: Mapping[str, float | None], cases: Mapping[str, Mapping], patients: Mapping[str, str]
) -> list[Section]:
    folders = (folder, folder / "models", folder.parent / "models")
    history = next((rows for where in folders if (rows := read_history(str(where / "history.csv")))), [])
    sections = [Section("Metrics", [metrics_table(metrics, cases, patients)])] if metrics else []
    return [*sections, Section("Training", curves(history))] if history else sections


def metrics_table(
    metrics: Mapping[str, float | None], cases: Mapping[str, Mapping[str, float]], patients: Mapping[str, str]
) -> Block:
    """Each metric; where it is the mean over cases, with its 95 % interval (percentile bootstrap of patients)."""
    drawn = f"{len(set(patients.values()))} patients" if patients else f"{len(cases)} cases"
    header = ("", "value", f"95 % interval over {drawn}") if cases else ()
    intervals = intervals_of(metrics, cases, patients)
    rows = [
        (name, "undefined" if value is None else f"{value:.3f}", "{:.3f} to {:.3f}".format(*intervals[name])
         if name in intervals else "")
        for name, value in metrics.items()
    ]  # fmt: skip
    return table(rows, header=header)


def curves(history: Sequence[Mapping[str, float]]) -> list[Block]:
    """Line charts of the losses and of the validation's metrics over the epochs."""
    names = list(dict.fromkeys(name for row in history for name in row if name != "epoch"))
    groups = {kind: [n for n in names if n.startswith(kind)] for kind in ("loss", "validation")}
    return [_chart(kind, group, history) for kind, group in groups.items() if group]


def _chart(kind: str, names: Sequence[str], history: Sequence[Mapping[str, float]]) -> Block:
    points = {n: [(row["epoch"], row[n]) for row in history if n in row and np.isfinite(row[n])] for n in names}
    values = [value for line in points.values() for _, value in line] or [0.0]
    low, high, last = min(values), max(values), max(row["epoch"] for row in history)
    height, width = max(high - low, 1e-12), max(last - 1, 1)
    lines = [
        {
            "name": name.removeprefix(f"{kind} "),
            "colour": COLOURS[index % len(COLOURS)],
            "points": [
                (f"{50 + 540 * (epoch - 1) / width:.1f}", f"{20 + 180 * (1 - (value - low) / height):.1f}")
                for epoch, value in line
            ],
        }
        for index, (name, line) in enumerate(points.items())
    ]
    limits = {"low": f"{low:.3g}", "high": f"{high:.3g}", "last": f"{last:.0f}"}
    return {"kind": "chart", "title": kind, "lines": lines, **limits}


def case_sections(folder: Path, predictions: Sequence[dict], cases: Mapping[str, Mapping[str, float]]) -> list[Section]:
    """The worst and the best cases by the first value of ``cases``; without values the first in their order."""
    column = next((name for case in cases.values() for name in case), None)
    scored = [(cases[n][column], e) for e in predictions if column and column in cases.get(n := _name(e), {})]
    scored = sorted((pair for pair in scored if np.isfinite(pair[0])), key=lambda pair: pair[0])
    if len(scored) < 2:  # nothing is worst or best
        return [case_section(folder, entry) for entry in predictions[:PAGES]]
    worst = scored[: max(1, min(PAGES, len(scored)) // 2)]
    best = scored[len(worst) :][::-1][: PAGES - len(worst)]
    sections = []
    for kind, pairs in (("Worst", worst), ("Best", best)):
        group = [case_section(folder, entry, f"{column} {value:.3f}") for value, entry in pairs]
        sections += [group[0]._replace(group=f"{kind} cases by {column}"), *group[1:]] if group else []
    return sections


def _name(entry: Mapping[str, Any]) -> str:
    return str(entry.get("study", entry.get("image", "")))


def case_section(folder: Path, entry: dict, score: str = "") -> Section:
    """One prediction: pictures, what the network says of them, the report."""
    report = report_block(entry)
    in_regions = report is not None and report.get("image") is not None
    skipped = {*KEYS, "mask", *(["lesions"] if in_regions else [])}
    files = [v for k, v in entry.items() if isinstance(v, str) and v.endswith(".png") and k not in skipped]
    pictures = [picture for file in files if _inside(folder, file) and (picture := _opened(folder / file))]
    shown = figure(side_by_side(pictures), facts(entry)) if pictures else None
    if in_regions and shown:
        shown = {"kind": "details", "summary": "where each sentence looks in the image", "block": shown}
    blocks = [block for block in ((report, shown) if in_regions else (shown, report)) if block]
    if entry.get("warning"):
        blocks.insert(0, {"kind": "warning", "text": f"{entry['warning'].capitalize()}: trust no answer."})
    return Section(Path(_name(entry)).name + (f": {score}" if score else ""), blocks)


def facts(entry: Mapping[str, Any]) -> str:
    """Class, probability, sizes, phrase, in one line."""
    said = [f"{entry['class']}, probability of malignant {entry['prob']:.2f}"] if "class" in entry else []
    said += [str(entry["phrase"])] if entry.get("phrase") else []
    said += [text.format(entry[name]) for name, text in SIZES.items() if name in entry]
    said += [f"topic: {', '.join(entry['topic'])}"] if entry.get("topic") else []
    said += [f"familiarity {entry['familiarity']:.2f}"] if "familiarity" in entry else []
    said += ["text or calipers may be burned in"] if entry.get("burned_in_text", False) is not False else []
    return "; ".join(said)


def report_block(entry: Mapping[str, Any]) -> Block | None:
    """The report: words shaded by their probability, or sentences that light up the regions they look at."""
    if "words" in entry:
        if not entry["words"]:
            return {"kind": "note", "text": "No report: segmented from the image alone."}
        spans = [(word["start"], word["end"]) for word in entry["words"]]
        return words(entry["report"], spans, [word["probability"] for word in entry["words"]])
    if "sentences" not in entry:
        return None
    boxes = entry.get("boxes") or []
    block: Block = {"kind": "sentences", "lines": [_sentence(sentence, boxes) for sentence in entry["sentences"]]}
    if boxes and any("regions" in sentence for sentence in entry["sentences"]):
        block |= _regions(entry, boxes)
    return block


def _sentence(sentence: Mapping[str, Any], boxes: Sequence[Mapping]) -> dict[str, str]:
    shares = sentence.get("regions", [])
    seen = [f"{k}: {b.get('label') or 'lesion'} {s:.0%}" for k, (b, s) in enumerate(zip(boxes, shares), 1)]  # noqa: B905 (boxes beyond the network's regions)
    about = "; ".join([f"{sentence['probability']:.2f}", *([", ".join(seen)] if seen else [])])
    return {"text": sentence["text"], "about": about, "shares": json.dumps(shares) if shares else ""}


def _regions(entry: Mapping[str, Any], boxes: Sequence[Mapping]) -> Block:
    """The first image with its boxes as elements that the page's script lights up; nothing if the image is gone."""
    try:
        image = to_grey(open_image(entry["images"][0]))
    except (OSError, ValueError):
        return {}
    frames = []
    for box in boxes:
        parts = (100 * part / whole for part, whole in zip(box["box"], (*image.size, *image.size), strict=True))
        left, top, width, height = (f"{part:.2f}%" for part in parts)
        frames.append(f"left:{left};top:{top};width:{width};height:{height}")
    image.thumbnail((512, 512))
    return {"image": _embedded(image), "frames": frames, "caption": "point at a sentence: the lesions it looks at"}


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
