"""Images with labelled lesion boxes: COCO files, VinDr-CXR's csv, annotated studies, to train and measure a detector.

COCO: ``coco_{train,val,test}.json`` or D2R-Net's ``coco_annotations_{train,val,test,unlabel}.json``, images in
``images/`` or in a folder named as the split; without a file ``val``, a fifth of the training images validates.
VinDr-CXR (Nguyen et al. 2022) and its Kaggle form: ``train.csv`` or ``annotations_train.csv`` with ``image_id,
class_name, rad_id, x_min, y_min, x_max, y_max``, images (PNG, JPEG or DICOM) in ``train/``; ``annotations_test.csv``
with ``test/``, if it is there. D2R-Net's ``annotation.json`` with ``boxes`` and ``box_labels``, images in ``images/``.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from common.cli.reading import read_json, read_table
from common.datasets.box_fusion import fuse
from common.datasets.coco import id_of, require_matched
from common.datasets.splits import fold, inside
from common.datasets.studies import image_folder, load_annotation
from common.images.dicom import SUFFIXES
from common.images.files import check_images, image_size

logger = logging.getLogger(__name__)
# VinDr-CXR's local labels, in the official order
LABELS = (
    "Aortic enlargement", "Atelectasis", "Calcification", "Cardiomegaly", "Clavicle fracture", "Consolidation", "Edema",
    "Emphysema", "Enlarged PA", "ILD", "Infiltration", "Lung Opacity", "Lung cavity", "Lung cyst", "Mediastinal shift",
    "Nodule/Mass", "Pleural effusion", "Pleural thickening", "Pneumothorax", "Pulmonary fibrosis", "Rib fracture",
    "Other lesion",
)  # fmt: skip
TABLES = ("annotations/annotations_train.csv", "annotations_train.csv", "train.csv")
NOTHING = "No finding"
ENDS = (".png", ".jpg", ".jpeg", *SUFFIXES)
COLUMNS = ("image_id", "class_name", "x_min", "y_min", "x_max", "y_max")
EMPTY = [-1, -1, -1, -1]
VERY_LARGE, NO_SIZE = (10**9, 10**9), (0, 0)  # an image that no box leaves; one without boxes
SLACK = 2.0  # pixels that a box may leave the image by rounding
OUTSIDE = 0.05  # share of boxes that may leave their images


class Boxed(NamedTuple):
    """An image with what its file says of it.

    Attributes:
        path: of the image.
        names: label of each box.
        boxes: float64 (M, 4).
    """

    path: str
    names: list[str]
    boxes: np.ndarray


def read_boxes(root: str, split: str, *, classes: Sequence[str], check: bool = True) -> list[dict]:
    """Return ``image`` (path), ``boxes`` float32 (M, 4) as x1, y1, x2, y2, ``labels`` int64 (M,) for each image.

    Boxes are cut off at the image's border; those without area are left out, and so are classes that ``classes`` lacks;
    both are counted in the log. Boxes of JSON files are x, y, width, height, unless :func:`as_corners` finds otherwise.

    Args:
        split: ``train``, ``val``, ``test`` or ``unlabel`` (whose images need no boxes).
        check: look at the images (:func:`common.images.files.check_images`).

    Raises:
        FileNotFoundError: no annotation file of the split, or an image is missing.
        ValueError: an entry of no known form, a coordinate that is no number, a damaged image, or no image at all.
    """
    raw, wide = _raw(Path(root), split)
    if raw is None:
        raise FileNotFoundError(
            f"dataset_dir: {root!r} has no coco_{split}.json, no train.csv and no annotation.json with boxes"
        )
    if not raw:
        raise ValueError(f"dataset_dir: {root!r} has no image in split {split!r}")
    if check:
        check_images([image.path for image in raw], root=root)
    look = image_size if check else size_if_any
    sizes = [look(image.path) if len(image.boxes) else NO_SIZE for image in raw]
    _check_numbers(raw)
    if wide:
        corners = as_corners([image.boxes for image in raw], sizes, what=split)
        raw = [image._replace(boxes=boxes) for image, boxes in zip(raw, corners, strict=True)]
    return _clean(raw, sizes, {name: number for number, name in enumerate(classes)}, split)


def size_if_any(path: str) -> tuple[int, int]:
    """Width and height of an image; of one that cannot be read, which is left out when it is loaded, very large."""
    try:
        return image_size(path)
    except (OSError, ValueError):
        return VERY_LARGE


def has_split(root: str, split: str) -> bool:
    """Whether ``root`` has a file that says which images ``split`` holds."""
    return _source(Path(root), split) is not None


def split_images(root: str, split: str) -> list[str]:
    """Images of a split, with or without boxes; none where :func:`has_split` is false."""
    source = _source(Path(root), split)
    if source == "studies":
        return [image.path for image in _of_studies(Path(root) / "annotation.json", split, labelled=False)]
    return [image.path for image in _raw(Path(root), split)[0] or []]


def _source(folder: Path, split: str) -> str | None:
    """Which of the forms says what a split holds."""
    if _coco_file(folder, split) is not None:
        return "coco"
    if split != "unlabel" and _first(folder, *TABLES) is not None:
        return "vindr"
    return "studies" if split != "unlabel" and _first(folder, "annotation.json") is not None else None


def _raw(folder: Path, split: str) -> tuple[list[Boxed] | None, bool]:
    """Images of a split, and whether their boxes are x, y, width, height."""
    if (source := _source(folder, split)) == "coco":
        return _of_coco(folder, split), True
    if source == "vindr":
        return _of_vindr(folder, split), False
    return (_of_studies(folder / "annotation.json", split), True) if source == "studies" else (None, False)


def as_corners(boxes: Sequence[np.ndarray], sizes: Sequence[tuple[int, int]], *, what: str) -> list[np.ndarray]:
    """Boxes (M, 4) of each image, stored as x, y, width, height, as x1, y1, x2, y2.

    Where many more leave their images so than as corners, they are taken for corners; the log says so.

    Args:
        sizes: width and height of each image.
        what: is meant, for the log.
    """
    if are_corners(boxes, sizes):
        logger.warning("%s: the boxes are read as x1, y1, x2, y2: as x, y, width, height they leave the image", what)
        return list(boxes)
    return [np.concatenate([current[:, :2], current[:, :2] + current[:, 2:]], axis=1) for current in boxes]


def are_corners(boxes: Sequence[np.ndarray], sizes: Sequence[tuple[int, int]]) -> bool:
    """Whether more than ten times as many boxes fail as x, y, width, height as fail as corners."""
    as_wide = as_corner = 0
    for current, size in ((current, size) for current, size in zip(boxes, sizes, strict=True) if len(current)):
        limit = np.array([*size, *size]) + SLACK
        as_corner += int(((current[:, 2:] < current[:, :2]).any(1) | (current > limit).any(1)).sum())
        as_wide += int((current[:, :2] + current[:, 2:] > limit[:2]).any(1).sum())
    return as_wide > 10 * as_corner


def _first(folder: Path, *names: str) -> Path | None:
    """The first of ``names`` that is a file of ``folder``."""
    return next((folder / name for name in names if Path(inside(folder, name)).is_file()), None)


def key_of(path: str | Path, folder: Path) -> str:
    """What an image is known by: its path in ``folder`` without suffix, parts joined by "_"."""
    return "_".join(Path(path).relative_to(folder).with_suffix("").parts)


def _coco_file(folder: Path, split: str) -> Path | None:
    """The split's own file; of ``val`` the training file, where there is none."""
    file = _first(folder, f"coco_{split}.json", f"coco_annotations_{split}.json")
    return _coco_file(folder, "train") if file is None and split == "val" else file


def _of_coco(folder: Path, split: str) -> list[Boxed]:
    """Images of a split of COCO files. Without a file ``val``, fold 0 of training, by file name, validates."""
    file = _coco_file(folder, split)
    assert file is not None
    current = split if split != "val" or file.stem.endswith("val") else "train"
    images = next((f for f in (folder / current, folder / "images") if f.is_dir()), folder)
    results = _of_coco_file(file, images)
    if split in ("train", "val") and _coco_file(folder, "train") == _coco_file(folder, "val"):
        return [image for image in results if (fold(key_of(image.path, images)) == 0) == (split == "val")]
    return results


def _of_coco_file(file: Path, images: Path) -> list[Boxed]:
    content = read_json(file, what="dataset_dir")
    try:
        names = {id_of(category["id"]): str(category["name"]) for category in content.get("categories", [])}
        labels: dict = defaultdict(list)
        boxes: dict = defaultdict(list)
        for entry in content.get("annotations", []):
            labels[id_of(entry["image_id"])].append(names[id_of(entry["category_id"])])
            boxes[id_of(entry["image_id"])].append(_four(entry["bbox"]))
        known = [id_of(entry["id"]) for entry in content["images"]]
        require_matched(known, boxes, where=str(file))
        return [
            Boxed(inside(images, entry["file_name"]), labels[id], _array(boxes[id]))
            for id, entry in zip(known, content["images"], strict=True)
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{str(file)!r} is no COCO file of boxes: {error!r}; export it again") from error


def _four(box: Sequence) -> list[float]:
    values = [float(value) for value in box]
    if len(values) != 4:
        raise ValueError(f"boxes: {box} has not four numbers; correct the entry")
    return values


def _array(boxes: list) -> np.ndarray:
    return np.array(boxes, dtype=np.float64).reshape(-1, 4)


def _of_studies(annotation: Path, split: str, *, labelled: bool = True) -> list[Boxed]:
    """First images of studies, whose boxes must have labels if ``labelled``; empty slots (-1) are left out."""
    content = load_annotation(annotation)
    entries = content[split]
    images, results = image_folder(annotation.parent, entries), []
    for entry in entries:
        boxes = entry.get("boxes") if labelled else []
        labels = entry.get("box_labels") if labelled else []
        if boxes is None or labels is None or len(boxes) != len(labels):
            raise ValueError(
                f"boxes of {entry.get('image_path')} in {str(annotation)!r}: a box_label for each is missing"
            )
        mask = [index for index, box in enumerate(boxes) if list(box) != EMPTY]
        path = inside(images, str(entry["image_path"][0]))
        results.append(Boxed(path, [labels[index] for index in mask], _array([_four(boxes[index]) for index in mask])))
    return results


def _of_vindr(folder: Path, split: str) -> list[Boxed]:
    """Images of a split of VinDr's csv, three readers fused; fold 1 validates, fold 0 tests where no test file is."""
    table = _first(folder, *TABLES)
    assert table is not None
    test = _first(folder, "annotations/annotations_test.csv", "annotations_test.csv", "test.csv")
    if split == "test" and test is not None:
        return _of_csv(test, folder / "test", set(range(5)))
    training = {2, 3, 4} if test is None else {0, 2, 3, 4}
    return _of_csv(table, folder / "train", {"test": {0}, "val": {1}}.get(split, training))


def _of_csv(table: Path, images: Path, folds: set[int]) -> list[Boxed]:
    votes: dict[str, dict[str, list]] = defaultdict(lambda: defaultdict(list))
    for row in read_table(table, what="dataset_dir", columns=COLUMNS):
        current = votes[row["image_id"]]
        if row["class_name"] != NOTHING:
            current[row["class_name"]].append(_corners_of(row, table))
    results = []
    for name in (name for name in votes if fold(name) in folds):
        path = _first(images, *(name + end for end in ENDS))
        if path is None:
            raise FileNotFoundError(
                f"image: no file {str(images / name)!r} with any of {ENDS}; restore it or remove its rows"
            )
        fused = {label: fuse(np.array(boxes)) for label, boxes in votes[name].items()}
        labels = [label for label, boxes in fused.items() for _ in boxes]
        results.append(Boxed(str(path), labels, _array([box for boxes in fused.values() for box in boxes])))
    return results


def _corners_of(row: dict, table: Path) -> list[float]:
    try:
        return [float(row[key]) for key in ("x_min", "y_min", "x_max", "y_max")]
    except (TypeError, ValueError) as error:
        raise ValueError(f"{str(table)!r}: a box of image {row['image_id']!r} is no number: {row}") from error


def _check_numbers(raw: list[Boxed]) -> None:
    for image in raw:
        if not np.isfinite(image.boxes).all():
            raise ValueError(
                f"boxes of {image.path!r}: {image.boxes.tolist()} hold a value that is no number; correct the entry"
            )


def _clean(raw: list[Boxed], sizes: list[tuple[int, int]], index: dict[str, int], split: str) -> list[dict]:
    cases, dropped, cut, unknown = [], 0, 0, set()
    for image, size in zip(raw, sizes, strict=True):
        known = np.array([name in index for name in image.names], dtype=bool)
        unknown |= {name for name in image.names if name not in index}
        boxes = np.clip(image.boxes, 0.0, [*size, *size])
        wide = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        dropped += int((known & ~wide).sum())
        cut += int((np.abs(boxes - image.boxes) > SLACK).any(axis=1).sum())
        kept = (known & wide).nonzero()[0]
        labels = np.array([index[image.names[position]] for position in kept], dtype=np.int64)
        cases.append({"image": image.path, "boxes": boxes[kept].astype(np.float32), "labels": labels})
    total = sum(len(image.boxes) for image in raw)
    if cut > max(10, OUTSIDE * total):
        raise ValueError(
            f"boxes: {cut} of {total} boxes of split {split!r} leave their images; "
            "are they in the pixels of images of another size?"
        )
    if dropped or unknown or cut:
        logger.warning(
            "%s: %d boxes without area in their image and all of %s left out, %d cut off at the border",
            split, dropped, sorted(unknown), cut,
        )  # fmt: skip
    return cases
