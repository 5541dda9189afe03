"""Synthetic thyroid ultrasound with reports: many images to one report, and the truth about every sentence.

Each image shows 2-4 equally plausible nodules; the one that its sentence of the report describes is the target, so the
image alone is ambiguous. What a sentence states singles out one nodule of its image, while distractors share single
attributes. The report shuffles the sentences on all images of the patient with sentences on gland and neck. Written in
the RATN folder form (:mod:`common.datasets.ratn`) and read back through the same reader as real data.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from common.cli.atomic import whole_folder
from common.datasets.splits import split_ids
from common.synthetic.folder import existing_or_made
from common.synthetic.thyroid_phantom import ECHOGENICITY_DB, HEIGHT_TO_WIDTH, Nodule, draw
from common.text import thyroid

COLUMNS = {"left": 0.24, "middle": 0.50, "right": 0.76}
ROWS = {"upper": 0.40, "lower": 0.70}


@dataclass(frozen=True)
class ThyroidOptions:
    """What a synthetic data set holds; each rate is a probability in [0, 1].

    Args:
        reports: patients; each has 3 or 4 images.
        size: height and width of an image in pixels.
        language: ``"en"`` or ``"zh"``.
        seed: the same seed gives the same files.
        absent_rate: how often nodules that fit another image's sentence are kept out of an image.
        unmatched_rate: sentence on an image's target left out of the report (the mask is empty then).
        second_rate: a second target in the image, with its own sentence.
        negation_rate: a further sentence that denies a nodule.
        wrong_side_rate: the sentence states the opposite column, as a slip of the reader would.
    """

    reports: int = 320
    size: int = 128
    language: str = "en"
    seed: int = 0
    absent_rate: float = 0.9
    unmatched_rate: float = 0.0
    second_rate: float = 0.0
    negation_rate: float = 0.0
    wrong_side_rate: float = 0.0


def dataset_or_synthetic(*, dataset_dir: str | None, synthetic_dir: str, options: dict) -> str:
    """Return ``dataset_dir`` if one is given, else ``synthetic_dir`` with the synthetic data written to it.

    Raises:
        FileNotFoundError: ``dataset_dir`` is given and is no folder.
        ValueError: ``synthetic_dir`` holds data made with other ``options``.
    """
    targets = ThyroidOptions(**options)
    return existing_or_made(dataset_dir, synthetic_dir, asdict(targets), lambda root: write_synthetic(root, targets))


def write_synthetic(root: str, options: ThyroidOptions) -> None:
    """Write ``images/``, ``masks/``, ``reports.json``, ``splits.json`` under ``root``, whole or not at all."""
    with whole_folder(root) as folder:
        for name in ("images", "masks"):
            (folder / name).mkdir(parents=True)
        rng = np.random.default_rng(options.seed)
        reports = [_write_patient(folder, f"P{index:04d}", options, rng) for index in range(options.reports)]
        ids = [report["report_id"] for report in reports]
        for name, content in {"reports": reports, "splits": split_ids(ids), "options": asdict(options)}.items():
            (folder / f"{name}.json").write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")


def _write_patient(folder: Path, patient: str, options: ThyroidOptions, rng: np.random.Generator) -> dict:
    """Draw the images of one patient; return the entry of ``reports.json``."""
    names = [f"{patient}_{index}.png" for index in range(int(rng.integers(3, 5)))]
    targets = [[_sample_nodule(rng, taken=[])] for _ in names]
    for nodules in targets:
        if rng.random() < options.second_rate:
            nodules.append(_sample_nodule(rng, taken=nodules))
    described = [(image, nodule, _mention(nodule, rng)) for image, group in enumerate(targets) for nodule in group]
    scenes = [_add_distractors(image, targets[image], described, options, rng) for image in range(len(names))]
    sentences, unmatched = _write_sentences(names, described, options, rng)
    for image, (name, scene) in enumerate(zip(names, scenes, strict=True)):
        pixels, masks = draw(scene, options.size, rng)
        of_targets = masks[: len(targets[image])]
        mask = np.zeros_like(of_targets[0]) if image in unmatched else np.logical_or.reduce(of_targets)
        Image.fromarray(pixels).save(folder / "images" / name)
        Image.fromarray(mask.astype(np.uint8) * 255).save(folder / "masks" / name)
    return {
        "report_id": patient,
        "text": ("" if options.language == "zh" else " ").join(sentence["text"] for sentence in sentences),
        "images": names,
        "sentences": sentences,
        "nodules": [{"image": names[i], **asdict(nodule), **tirads(nodule, rng)} for i, nodule, _ in described],
    }


def _sample_nodule(rng: np.random.Generator, taken: Sequence[Nodule]) -> Nodule:
    """Sample a nodule in a cell of the lobe that no nodule of ``taken`` fills."""
    cells = [(c, r) for c in COLUMNS for r in ROWS if all((n.column, n.row) != (c, r) for n in taken)]
    column, row = cells[rng.integers(len(cells))]
    echogenicity = str(rng.choice(list(ECHOGENICITY_DB)))
    return Nodule(
        x=COLUMNS[column] + rng.uniform(-0.035, 0.035),
        y=ROWS[row] + rng.uniform(-0.02, 0.02),
        radius=rng.uniform(0.09, 0.125),
        column=column,
        row=row,
        composition="cystic" if echogenicity == "anechoic" else str(rng.choice(["solid", "mixed"], p=[0.75, 0.25])),
        echogenicity=echogenicity,
        shape=str(rng.choice(list(HEIGHT_TO_WIDTH))),
        margin=str(rng.choice(["smooth", "ill-defined", "irregular"], p=[0.5, 0.25, 0.25])),
        foci=str(rng.choice(["none", "punctate", "macrocalcification", "comet-tail"], p=[0.6, 0.15, 0.15, 0.1])),
    )


def _mention(nodule: Nodule, rng: np.random.Generator) -> dict[str, str]:
    """Choose what the sentence states: always the echogenicity, and mostly position and shape."""
    keys = [("row", "column"), ("row", "column", "shape"), ("column", "shape"), ("row", "shape"), ("column",)]
    chosen = keys[rng.choice(len(keys), p=[0.2, 0.35, 0.2, 0.1, 0.15])]
    return {key: getattr(nodule, key) for key in (*chosen, "echogenicity")}


def _fits(nodule: Nodule, mention: dict[str, str]) -> bool:
    return all(getattr(nodule, key) == value for key, value in mention.items())


def _add_distractors(
    image: int,
    targets: list[Nodule],
    described: list[tuple[int, Nodule, dict]],
    options: ThyroidOptions,
    rng: np.random.Generator,
) -> list[Nodule]:
    """Fill the image up to 2-4 nodules, none of which fits the image's own sentences."""
    mentioned = [mention for index, _, mention in described if index == image]
    others = [mention for index, _, mention in described if index != image]
    scene, count = list(targets), max(int(rng.integers(2, 5)), len(targets) + 1)
    while len(scene) < count:
        nodule = _sample_nodule(rng, taken=scene)
        kept_out = rng.random() < options.absent_rate and any(_fits(nodule, mention) for mention in others)
        if not kept_out and not any(_fits(nodule, mention) for mention in mentioned):
            scene.append(nodule)
    return scene


def _write_sentences(
    names: list[str], described: list[tuple[int, Nodule, dict]], options: ThyroidOptions, rng: np.random.Generator
) -> tuple[list[dict], set[int]]:
    """Return the shuffled sentences with their truth, and the images whose sentence was left out."""
    unmatched = {image for image in range(len(names)) if rng.random() < options.unmatched_rate}
    sentences = []
    for image, nodule, mention in described:
        if image in unmatched:
            continue
        stated = dict(mention)
        if "column" in stated and rng.random() < options.wrong_side_rate:
            stated["column"] = {"left": "right", "right": "left"}.get(stated["column"], stated["column"])
        text, words = thyroid.nodule_sentence(stated, nodule, rng, language=options.language)
        sentences.append({"text": text, "images": [names[image]], "attributes": words})
    if rng.random() < options.negation_rate:
        absent = _sample_nodule(rng, taken=[])
        text, words = thyroid.nodule_sentence(
            _mention(absent, rng), absent, rng, language=options.language, negated=True
        )
        sentences.append({"text": text, "images": [], "attributes": words})
    for text in thyroid.filler(rng, int(rng.integers(2, 5)), language=options.language):
        sentences.append({"text": text, "images": [], "attributes": []})
    return [sentences[index] for index in rng.permutation(len(sentences))], unmatched


def tirads(nodule: Nodule, rng: np.random.Generator) -> dict[str, int]:
    """ACR TI-RADS points and level (Tessler et al. 2017), and a malignancy label drawn from them with noise."""
    points = {"solid": 2, "mixed": 1, "cystic": 0}[nodule.composition]
    points += {"anechoic": 0, "hyperechoic": 1, "isoechoic": 1, "hypoechoic": 2}[nodule.echogenicity]
    points += 3 if nodule.shape == "taller-than-wide" else 0
    points += 2 if nodule.margin == "irregular" else 0
    points += {"none": 0, "comet-tail": 0, "macrocalcification": 1, "punctate": 3}[nodule.foci]
    level = 1 + int(np.searchsorted([2, 3, 4, 7], points, side="right"))
    return {"tirads": level, "malignant": int(rng.random() < 1 / (1 + np.exp(5.5 - points)))}
