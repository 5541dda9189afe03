"""DDTI (Pedraza et al. 2015), thyroid ultrasound with nodule outlines, in two published forms.

XML form: ``{n}.xml`` and ``{n}_{k}.jpg`` in one folder, outlines as polygons. Mask form: ``image/``, ``mask/`` and
``cases.csv`` (``image,case,ddti_id,tirads,malignant``). DDTI has no free-text reports: the reader composes one
**templated report** per case from its TI-RADS level and from what is measured on the masks, so every figure made with
it says "templated reports". They describe the true masks, better than any radiologist would: an upper bound.
"""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
import zlib
from collections import defaultdict
from pathlib import Path

import numpy as np
from scipy import ndimage

from common.cli.reading import read_table, read_xml, visible
from common.datasets.splits import inside, three_way_split
from common.images.files import image_size
from common.images.masks import draw_polygons, read_mask
from common.text import thyroid

SMALLEST_NODULE = 0.001  # of the image's area; smaller components are slips of the pen


def read_ddti(root: str, split: str) -> list[dict]:
    """Read the mask form: a dictionary an image with ``image, label, report, case, tirads, sentences``.

    Raises:
        ValueError: ``cases.csv`` lacks a column.
    """
    folder = Path(root)
    rows = read_table(folder / "cases.csv", what="dataset_dir", columns=("image", "case"))
    cases = [
        {
            "image": inside(folder, f"image/{row['image']}"),
            "label": inside(folder, f"mask/{row['image']}"),
            "case": row["case"],
            "tirads": row.get("tirads") or "",
            "malignant": row.get("malignant") or "",
        }
        for row in rows
        if three_way_split(row["case"]) == split
    ]
    return _with_reports(cases)


def read_ddti_xml(root: str, split: str) -> list[dict]:
    """Read the XML form; ``label`` is a list of polygons ``[[x, y], ...]`` in pixels. Images without one are left out.

    Raises:
        ValueError: an XML file is damaged.
    """
    cases = []
    for path in sorted(visible(root, "*.xml"), key=lambda file: (len(file.stem), file.stem)):
        element = read_xml(path, what="dataset_dir")
        number = (element.findtext("number") or path.stem).strip()
        if three_way_split(number) != split:
            continue
        tirads = (element.findtext("tirads") or "").strip()
        for index, polygons in _outlines(element, path).items():
            image = inside(Path(root), f"{path.stem}_{index}.jpg")
            cases.append({"image": image, "label": polygons, "case": number, "tirads": tirads})
    return _with_reports(cases)


def _outlines(element: ElementTree.Element, path: Path) -> dict[str, list[list[list[float]]]]:
    """Polygons of each image of a case; an empty or invalid ``svg`` is skipped, as the data set has some.

    Raises:
        ValueError: an ``svg`` holds something else than points with x and y.
    """
    outlines: dict[str, list] = defaultdict(list)
    for mark in element.iter("mark"):
        try:
            regions = json.loads(mark.findtext("svg") or "[]")
        except json.JSONDecodeError:
            continue
        try:
            polygons = [[[float(p["x"]), float(p["y"])] for p in region.get("points") or []] for region in regions]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ValueError(f"dataset_dir: an svg of {str(path)!r} has no points with x and y; correct it") from error
        for points in polygons:
            if len(points) >= 3:
                outlines[(mark.findtext("image") or "").strip()].append(points)
    return dict(outlines)


def _with_reports(cases: list[dict]) -> list[dict]:
    """Add ``report`` and ``sentences`` to each image from all images of its case."""
    groups: dict[str, list[dict]] = defaultdict(list)
    for case in cases:
        groups[case["case"]].append(case)
    for name, group in groups.items():
        sentences = templated_sentences(name, group)
        for case in group:
            case["report"] = " ".join(sentence["text"] for sentence in sentences)
            case["sentences"] = tuple({**s, "about_image": case["image"] in s["images"]} for s in sentences)
    return cases


def templated_sentences(case: str, images: list[dict]) -> list[dict]:
    """Sentences on all nodules of all ``images`` of a case, shuffled with gland and lymph-node sentences.

    The choice of words is fixed by the case's name. Each has ``text``, the ``images`` it is about, ``attributes``.
    """
    rng = np.random.default_rng(zlib.crc32(case.encode()))
    sentences = []
    for image in images:
        for nodule in measure_nodules(_mask(image)):
            sentences.append({**_describe(nodule, rng), "images": [image["image"]]})
    if images[0]["tirads"]:
        sentences.append({"text": f"TI-RADS {images[0]['tirads']}.", "images": [], "attributes": []})
    for text in thyroid.filler(rng, int(rng.integers(2, 4)), language="en"):
        sentences.append({"text": text, "images": [], "attributes": []})
    return [sentences[index] for index in rng.permutation(len(sentences))]


def measure_nodules(mask: np.ndarray) -> list[dict[str, float]]:
    """Centre, width and height of each nodule of a mask (H, W), in fractions of the image's width and height."""
    labels, _ = ndimage.label(mask)
    nodules = []
    for index, box in enumerate(ndimage.find_objects(labels), start=1):
        inside_box = labels[box] == index
        if inside_box.sum() < SMALLEST_NODULE * mask.size:
            continue
        rows, columns = ndimage.center_of_mass(labels == index)
        nodules.append(
            {
                "x": columns / mask.shape[1],
                "y": rows / mask.shape[0],
                "width": inside_box.shape[1] / mask.shape[1],
                "height": inside_box.shape[0] / mask.shape[0],
                "ratio": inside_box.shape[0] / inside_box.shape[1],
            }
        )
    return nodules


def _describe(nodule: dict[str, float], rng: np.random.Generator) -> dict:
    """One sentence on a measured nodule, in the words of :mod:`common.text.thyroid`.

    Extents are rounded to ten percent: exact ones are a number for nearly each report, which a network learns by heart
    instead of reading.
    """
    column = ("left", "middle", "right")[min(2, int(3 * nodule["x"]))]
    row = ("upper", "middle", "lower")[min(2, int(3 * nodule["y"]))]
    size = ("small", "medium-sized", "large")[int(np.searchsorted([0.04, 0.12], nodule["width"] * nodule["height"]))]
    shape = "taller-than-wide" if nodule["ratio"] > 1.1 else "wider-than-tall" if nodule["ratio"] < 0.7 else "round"
    words = [str(rng.choice(thyroid.ENGLISH[key])) for key in (row, column, shape)]
    position = words[1] if row == column == "middle" else f"{words[0]} {words[1]}"
    width, height = (f"{max(1, round(10 * nodule[side]))}0" for side in ("width", "height"))
    extent = f"about {width} x {height} percent of the image"
    templates = [
        f"A {size} {words[2]} nodule lies in the {position} part, {extent}.",
        f"In the {position} region there is a {size} nodule of {words[2]} shape measuring {extent}.",
        f"{size.capitalize()} nodule, {words[2]}, {position} part, {extent}.",
    ]
    return {"text": str(rng.choice(templates)), "attributes": [*position.split(), words[2], size, width, height]}


def _mask(case: dict) -> np.ndarray:
    if isinstance(case["label"], list):
        return draw_polygons(case["label"], image_size(case["image"]))
    return read_mask(case["label"])
