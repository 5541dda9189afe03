"""Cases on a page: the worst and the best, with pictures, answers, and the report beside the reference."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from common.images.files import open_image, to_grey
from common.metrics.entities import organ_of, read_entities
from common.metrics.entity_status import contradictions, statuses
from common.results.blocks import Block, Section, embedded, figure, folded, words
from common.results.metric_words import name_of
from common.results.outlines import outlines
from common.results.remarks import against, unreported

CASES = 24  # shown at most, half of them the worst
SIZES = {"area_mm2": "area {:.0f} mm²", "long_axis_mm": "long axis {:.1f} mm", "short_axis_mm": "short axis {:.1f} mm"}
KEYS = ("image", "images", "study", "report", "phrase", "truth")


def case_sections(folder: Path, predictions: Sequence[dict], cases: Mapping[str, Mapping[str, float]]) -> list[Section]:
    """The worst and the best cases by the first value of ``cases``; without values the first in their order."""
    column = next((name for case in cases.values() for name in case), None)
    scored = [(cases[n][column], e) for e in predictions if column and column in cases.get(n := _name(e), {})]
    scored = sorted((pair for pair in scored if np.isfinite(pair[0])), key=lambda pair: pair[0])
    organ = organ_of([entry["reference"] for entry in predictions if entry.get("reference")])
    if column is None or len(scored) < 2:  # nothing is worst or best
        return [case_section(folder, entry, organ=organ) for entry in predictions[:CASES]]
    worst = scored[: max(1, min(CASES, len(scored)) // 2)]
    best = scored[len(worst) :][::-1][: CASES - len(worst)]
    sections = []
    for kind, pairs in (("Worst", worst), ("Best", best)):
        group = [case_section(folder, entry, (name_of(column), value), organ=organ) for value, entry in pairs]
        heading = f"{kind} cases by {name_of(column)}"
        sections += [group[0]._replace(group=heading), *group[1:]] if group else []
    return sections


def _name(entry: Mapping[str, Any]) -> str:
    return str(entry.get("study", entry.get("image", "")))


def case_section(
    folder: Path, entry: dict, score: tuple[str, float] | None = None, *, organ: str | None = None
) -> Section:
    """One prediction: pictures, what the network says of them, the report."""
    report = report_block(entry)
    in_regions = report is not None and report.get("image") is not None
    shown = pictures_of(folder, entry, without="lesions" if in_regions else "")
    if in_regions and shown:
        shown = folded("where each sentence looks in the image", shown)
    ordered = [report, shown] if in_regions else [shown, report]
    blocks = [block for block in (*ordered, reference_block(entry, organ)) if block]
    if left_out := unreported(entry):
        blocks.append({"kind": "warning", "text": left_out})
    if doubt := entry.get("report_doubt"):
        blocks.insert(0, {"kind": "warning", "text": f"{doubt[0].upper()}{doubt[1:]}"})
    if entry.get("warning"):
        blocks.insert(0, {"kind": "warning", "text": f"{entry['warning'].capitalize()}: trust no answer."})
    order: dict[str, str | float] = {"name": Path(_name(entry)).name}
    order |= {key: entry[key] for key in ("familiarity", "confidence") if entry.get(key) is not None}
    if score is None:
        return Section(str(order["name"]), blocks, order=order)
    return Section(f"{order['name']}: {score[0]} {score[1]:.3f}", blocks, order={**order, "score": score[1]})


def pictures_of(folder: Path, entry: Mapping[str, Any], *, without: str = "") -> Block | None:
    """The pictures of a prediction side by side, each with its file behind it, and its :func:`facts`."""
    drawn = outlines(folder, entry)
    skipped = {*KEYS, "mask", without, "overlay" if drawn else ""}
    files = [v for k, v in entry.items() if isinstance(v, str) and v.endswith(".png") and k not in skipped]
    opened = [(file, _opened(folder / file)) for file in files if _inside(folder, file)]
    figures = [figure(picture, "", file=file) for file, picture in opened if picture is not None]
    figures = [drawn, *figures] if drawn else figures
    return {"kind": "pictures", "figures": figures, "caption": facts(entry)} if figures else None


def facts(entry: Mapping[str, Any]) -> str:
    """Class, probability, sizes, phrase, in one line."""
    said = _class_of(entry) if "class" in entry else []
    said += [f"truth: {entry['truth']}"] if entry.get("truth") in ("benign", "malignant") else []
    said += [str(entry["phrase"])] if entry.get("phrase") else []
    said += [text.format(entry[name]) for name, text in SIZES.items() if name in entry]
    said += [f"topic: {', '.join(entry['topic'])}"] if entry.get("topic") else []
    found = [f"{each['name']} {each['probability']:.2f}" for each in entry.get("findings", ()) if each["found"]]
    said += [f"found in the image: {', '.join(found)}"] if found else []
    told = {"expected_dice": "expected Dice", "confidence": "confidence", "familiarity": "familiarity"}
    said += [f"{text} {entry[key]:.2f}" for key, text in told.items() if entry.get(key) is not None]
    said += ["text or calipers may be burned in"] if entry.get("burned_in_text", False) is not False else []
    return "; ".join(said)


def _class_of(entry: Mapping[str, Any]) -> list[str]:
    """Class and probability; where the network is unsure, that before all."""
    known = entry.get("prob_calibrated")
    said = (
        f"{entry['prob']:.2f}" if known is None else f"{known:.2f} (calibrated; the network says {entry['prob']:.2f})"
    )
    probability = f"probability of malignant {said}"
    if entry.get("unsure"):
        return [f"unsure, rather {entry['class']}", probability]
    return [f"{entry['class']}, {probability}"]


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


def reference_block(entry: Mapping[str, Any], organ: str | None) -> Block | None:
    """The reference report of a generated one; which entities of ``organ`` both, or one alone, name or deny."""
    if not entry.get("reference"):
        return None
    block: Block = {"kind": "reference", "text": entry["reference"], "lines": []}
    if organ is not None:
        entities = read_entities(organ)
        generated, reference = (statuses(str(entry.get(key, "")), entities) for key in ("report", "reference"))
        opposed = contradictions(generated, reference)
        groups = {
            "Stated by one, denied by the other": opposed,
            "Named by both": [name for name in reference if name in generated and name not in opposed],
            "Named by only the reference": [name for name in reference if name not in generated],
            "Named by only the generated one": [name for name in generated if name not in reference],
        }
        block["lines"] = [{"who": who, "what": ", ".join(names)} for who, names in groups.items() if names]
    return block


def _sentence(sentence: Mapping[str, Any], boxes: Sequence[Mapping]) -> dict[str, str]:
    shares = sentence.get("regions", [])
    seen = [f"{k}: {b.get('label') or 'lesion'} {s:.0%}" for k, (b, s) in enumerate(zip(boxes, shares), 1)]  # noqa: B905 (boxes beyond the network's regions)
    about = "; ".join([f"{sentence['probability']:.2f}", *([", ".join(seen)] if seen else [])])
    return {
        "text": sentence["text"],
        "about": about,
        "shares": json.dumps(shares) if shares else "",
        "against": against(sentence, {"boxes": boxes}),
    }


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
    return {"image": embedded(image), "frames": frames, "caption": "point at a sentence: the lesions it looks at"}


def _opened(path: Path) -> Image.Image | None:
    """The picture, None of a damaged file."""
    try:
        return Image.open(path).convert("RGB")
    except (OSError, SyntaxError, ValueError):
        return None


def _inside(folder: Path, file: str) -> bool:
    try:
        return (folder / file).resolve().is_relative_to(folder.resolve()) and (folder / file).is_file()
    except (ValueError, OSError):  # no name of a file
        return False
