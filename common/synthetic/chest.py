"""Synthetic chest X-rays with lesions in boxes and a report: a COCO file for the detector, studies for the reports.

Each image has none to three lesions of eight of VinDr-CXR's local labels (:data:`SHARES`); the report names each with
its side and zone, and states as normal what is normal. Read back as real data.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from common.cli.atomic import whole_folder
from common.datasets.annotation import SPLITS, save_annotation
from common.datasets.boxes import LABELS
from common.datasets.coco import coco_of
from common.datasets.splits import split_ids
from common.synthetic.chest_phantom import ZONE_Y, Lesion, draw_chest, place
from common.synthetic.folder import existing_or_made

SHARES = {
    "Cardiomegaly": 0.20, "Aortic enlargement": 0.12, "Pleural effusion": 0.15, "Pneumothorax": 0.10,
    "Calcification": 0.12, "Consolidation": 0.12, "Lung cavity": 0.08, "Nodule/Mass": 0.11,
}  # fmt: skip
FOUND = {
    "Cardiomegaly": ["The heart is enlarged.", "There is cardiomegaly."],
    "Aortic enlargement": ["The aortic knob is enlarged.", "There is enlargement of the aorta."],
    "Pleural effusion": ["There is a {side} pleural effusion.", "A pleural effusion is seen on the {side}."],
    "Pneumothorax": ["There is a {side} pneumothorax.", "A pneumothorax is seen at the {side} apex."],
    "Calcification": ["There is a calcification in the {side} {zone} zone.",
                      "A calcified granuloma is seen in the {side} {zone} zone."],
    "Consolidation": ["There is a consolidation in the {side} {zone} zone.",
                      "The {side} {zone} zone shows a consolidation."],
    "Lung cavity": ["There is a cavity in the {side} {zone} zone.", "The {side} {zone} zone shows a cavity."],
    "Nodule/Mass": ["There is a nodule in the {side} {zone} zone.", "A nodule is seen in the {side} {zone} zone."],
}  # fmt: skip
NORMAL = {
    ("Cardiomegaly",): ["The heart is normal in size.", "Heart size is within normal limits."],
    ("Consolidation", "Lung cavity", "Nodule/Mass", "Calcification"):
        ["The lungs are clear.", "No focal opacity is seen."],
    ("Pleural effusion", "Pneumothorax"):
        ["There is no pleural effusion or pneumothorax.", "No pneumothorax or effusion is seen."],
}  # fmt: skip


@dataclass(frozen=True)
class ChestOptions:
    """What a synthetic set of chest X-rays holds.

    Args:
        studies: patients, each with one image and one report.
        size: height and width of an image in pixels.
        seed: the same seed gives the same files.
    """

    studies: int = 1200
    size: int = 128
    seed: int = 0


def chest_or_synthetic(*, dataset_dir: str | None, synthetic_dir: str, options: dict) -> str:
    """As :func:`common.synthetic.thyroid.dataset_or_synthetic`, for chest X-rays."""
    targets = ChestOptions(**options)
    return existing_or_made(dataset_dir, synthetic_dir, asdict(targets), lambda root: write_chests(root, targets))


def write_chests(root: str, options: ChestOptions) -> None:
    """Write ``images/``, ``annotation.json``, ``coco_{train,val,test}.json``, ``options.json``; whole or not at all.

    ``annotation.json`` has D2R-Net's form: reports with boxes (x, y, w, h) of the lesions, and each box's label.
    """
    rng = np.random.default_rng(options.seed)
    with whole_folder(root) as folder:
        (folder / "images").mkdir(parents=True)
        entries = {
            uid: _write_chest(folder, uid, options, rng) for uid in (f"X{i:04d}" for i in range(options.studies))
        }
        parts = split_ids(list(entries))
        content = {name: [{**entries[uid], "split": name} for uid in parts[split]] for split, name in SPLITS.items()}
        save_annotation(folder / "annotation.json", content)
        for name, studies in content.items():
            (folder / f"coco_{name}.json").write_text(json.dumps(coco_of(studies, LABELS)), encoding="utf-8")
        (folder / "options.json").write_text(json.dumps(asdict(options)), encoding="utf-8")


def _write_chest(folder: Path, uid: str, options: ChestOptions, rng: np.random.Generator) -> dict:
    lesions = _sample(rng)
    pixels, boxes = draw_chest(lesions, options.size, rng)
    Image.fromarray(pixels).save(folder / "images" / f"{uid}.png")
    return {
        "id": uid,
        "report": _report(lesions, rng),
        "image_path": [f"{uid}.png"],
        "boxes": [[round(value, 1) for value in box] for box in boxes],
        "box_labels": [lesion.name for lesion in lesions],
        "scores": [1.0] * len(boxes),
        "height": options.size,
        "width": options.size,
    }


def _sample(rng: np.random.Generator) -> list[Lesion]:
    """None to three lesions of different names, no two in one zone of one lung."""
    names = rng.choice(list(SHARES), size=rng.choice([0, 1, 2, 3], p=[0.2, 0.4, 0.25, 0.15]), replace=False,
                       p=list(SHARES.values()))  # fmt: skip
    results: list[Lesion] = []
    for name in names:
        lesion = place(str(name), str(rng.choice(["left", "right"])), str(rng.choice(list(ZONE_Y))), rng)
        if not lesion.side or all(lesion.side != other.side for other in results):
            results.append(lesion)
    return results


def _report(lesions: list[Lesion], rng: np.random.Generator) -> str:
    seen = {lesion.name for lesion in lesions}
    sentences = [
        str(rng.choice(FOUND[lesion.name])).format(side=lesion.side, zone=lesion.zone) for lesion in lesions
    ] + [str(rng.choice(texts)) for names, texts in NORMAL.items() if not seen & set(names)]
    return " ".join(sorted(sentences, key=_order))


def _order(sentence: str) -> int:
    """Heart, aorta, lungs, pleura, as reports are mostly written."""
    words = (("heart", "Heart", "cardiomegaly"), ("aort",), ("zone", "lungs", "opacity"))
    return next(
        (position for position, parts in enumerate(words) if any(part in sentence for part in parts)), len(words)
    )
