"""Images with labelled lesion boxes: COCO files and VinDr-CXR's csv, to train and measure a detector.

COCO: ``coco_{train,val,test}.json`` or D2R-Net's ``coco_annotations_{train,val,test,unlabel}.json``, images in
``images/`` or in a folder named as the split. VinDr-CXR (Nguyen et al. 2022) and its Kaggle form: ``train.csv`` or
``annotations_train.csv`` with ``image_id, class_name, rad_id, x_min, y_min, x_max, y_max``, images (PNG, JPEG or
DICOM) in ``train/``.
"""

from __future__ import annotations

import csv
import json
import logging
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from common.datasets.files import check_image, fold, inside
from common.dicom import SUFFIXES

logger = logging.getLogger(__name__)
# VinDr-CXR's local labels, in the official order
LABELS = (
    "Aortic enlargement", "Atelectasis", "Calcification", "Cardiomegaly", "Clavicle fracture", "Consolidation", "Edema",
    "Emphysema", "Enlarged PA", "ILD", "Infiltration", "Lung Opacity", "Lung cavity", "Lung cyst", "Mediastinal shift",
    "Nodule/Mass", "Pleural effusion", "Pleural thickening", "Pneumothorax", "Pulmonary fibrosis", "Rib fracture",
    "Other lesion",
)  # fmt: skip
NOTHING = "No finding"
ENDS = (".png", ".jpg", ".jpeg", *SUFFIXES)
OVERLAP = 0.5  # of two readers' boxes of one lesion


def read_boxes(root: str, split: str, *, classes: Sequence[str]) -> list[dict]:
    """Return ``image`` (path), ``boxes`` float32 (M, 4) as x1, y1, x2, y2, ``labels`` int64 (M,) for each image.

    Boxes are cut off at the image's border; those without area are left out, and so are classes that ``classes`` lacks;
    both are counted in the log.

    Args:
        split: ``train``, ``val``, ``test`` or ``unlabel`` (whose images need no boxes).

    Raises:
        FileNotFoundError: no annotation file of the split, or an image is missing.
        ValueError: an entry of no known form, a coordinate that is no number, a damaged image, or no image at all.
    """
    folder = Path(root)
    file = _first(folder, f"coco_{split}.json", f"coco_annotations_{split}.json")
    table = _first(folder, "annotations/annotations_train.csv", "annotations_train.csv", "train.csv")
    if file is not None:
        raw = _of_coco(file, _images(folder, split))
    elif table is not None and split != "unlabel":
        raw = _of_csv(table, folder / "train", split)
    else:
        raise FileNotFoundError(f"dataset_dir: {root!r} has no coco_{split}.json and no train.csv; see common.datasets")
    if not raw:
        raise ValueError(f"dataset_dir: {root!r} has no image in split {split!r}")
    index = {name: number for number, name in enumerate(classes)}
    return _clean(raw, index, split)


def _first(folder: Path, *names: str) -> Path | None:
    """The first of ``names`` that is a file of ``folder``."""
    return next((folder / name for name in names if Path(inside(folder, name)).is_file()), None)


def _images(folder: Path, split: str) -> Path:
    return next((f for f in (folder / split, folder / "images") if f.is_dir()), folder)


def _of_coco(file: Path, images: Path) -> list[tuple[str, list[tuple[str, list[float]]]]]:
    """Path of each image with its named boxes."""
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        names = {category["id"]: str(category["name"]) for category in content.get("categories", [])}
        boxes: dict = defaultdict(list)
        for entry in content.get("annotations", []):
            x, y, width, height = (float(value) for value in entry["bbox"])
            boxes[entry["image_id"]].append((names[entry["category_id"]], [x, y, x + width, y + height]))
        return [(inside(images, entry["file_name"]), boxes[entry["id"]]) for entry in content["images"]]
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{str(file)!r} is no COCO file of boxes: {error!r}; export it again") from error


def _of_csv(table: Path, images: Path, split: str) -> list[tuple[str, list[tuple[str, list[float]]]]]:
    """Images of a split of VinDr's training csv, three readers fused; fold 0 tests, fold 1 validates."""
    wanted = {"test": {0}, "val": {1}}.get(split, {2, 3, 4})
    votes: dict[str, dict[str, list]] = defaultdict(lambda: defaultdict(list))
    with open(table, newline="", encoding="utf-8-sig") as file:
        for row in csv.DictReader(file):
            own = votes[row["image_id"]]
            if row["class_name"] != NOTHING:
                try:
                    box = [float(row[key]) for key in ("x_min", "y_min", "x_max", "y_max")]
                except ValueError as error:
                    raise ValueError(
                        f"{str(table)!r}: a box of image {row['image_id']!r} is no number: {row}"
                    ) from error
                own[row["class_name"]].append(box)
    found = []
    for name, classes in votes.items():
        if fold(name) in wanted:
            path = _first(images, *(name + end for end in ENDS))
            if path is None:
                raise FileNotFoundError(
                    f"image: no file {str(images / name)!r} with any of {ENDS}; restore it or remove its rows"
                )
            fused = [(label, box.tolist()) for label, boxes in classes.items() for box in fuse(np.array(boxes))]
            found.append((str(path), fused))
    return found


def fuse(boxes: np.ndarray, *, overlap: float = OVERLAP) -> np.ndarray:
    """Weighted boxes fusion (Solovyev et al. 2021) of several readers' boxes (M, 4) of one class, all weights equal.

    Boxes that overlap the mean of a group by more than ``overlap`` join it; each group gives its mean.
    """
    groups: list[list[np.ndarray]] = []
    for box in boxes:
        likes = [_iou(box, np.mean(group, axis=0)) for group in groups]
        best = int(np.argmax(likes)) if likes else -1
        if best >= 0 and likes[best] > overlap:
            groups[best].append(box)
        else:
            groups.append([box])
    return np.array([np.mean(group, axis=0) for group in groups]).reshape(-1, 4)


def _iou(first: np.ndarray, second: np.ndarray) -> float:
    low, high = np.maximum(first[:2], second[:2]), np.minimum(first[2:], second[2:])
    shared = float(np.prod(np.clip(high - low, 0, None)))
    areas = sum(float(np.prod(box[2:] - box[:2])) for box in (first, second))
    return shared / max(areas - shared, 1e-12)


def _clean(raw: list[tuple[str, list[tuple[str, list[float]]]]], index: dict[str, int], split: str) -> list[dict]:
    cases, dropped, unknown = [], 0, set()
    for path, named in raw:
        size = check_image(path)
        boxes, labels = [], []
        for name, box in named:
            if not all(math.isfinite(value) for value in box):
                raise ValueError(f"boxes of {path!r}: {box} hold a value that is no number; correct the entry")
            x1, y1, x2, y2 = np.clip(box, 0.0, (*size, *size)).tolist()
            if name not in index:
                unknown.add(name)
            elif x2 <= x1 or y2 <= y1:
                dropped += 1
            else:
                boxes.append([x1, y1, x2, y2])
                labels.append(index[name])
        own = np.array(boxes, dtype=np.float32).reshape(-1, 4), np.array(labels, dtype=np.int64)
        cases.append({"image": path, "boxes": own[0], "labels": own[1]})
    if dropped or unknown:
        names = sorted(unknown)
        logger.warning("%s: %d boxes without area in their image and all of %s left out", split, dropped, names)
    return cases
