"""Images with labelled lesion boxes: COCO files, VinDr-CXR's csv, annotated studies, to train and measure a detector.

COCO: ``coco_{train,val,test}.json`` or D2R-Net's ``coco_annotations_{train,val,test,unlabel}.json``, images in
``images/`` or in a folder named as the split; without a file ``val``, a fifth of the training images validates.
VinDr-CXR (Nguyen et al. 2022) and its Kaggle form: ``train.csv`` or ``annotations_train.csv`` with ``image_id,
class_name, rad_id, x_min, y_min, x_max, y_max``, images (PNG, JPEG or DICOM) in ``train/``; ``annotations_test.csv``
with ``test/``, if it is there. D2R-Net's ``annotation.json`` with ``boxes`` and ``box_labels``, images in ``images/``.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np

from common.cli.reading import read_json
from common.datasets.annotation import entry_named, image_folder, image_names, load_annotation
from common.datasets.boxed import Boxed, array_of, boxes_of, four, require_size, size_told
from common.datasets.coco import id_of, require_matched, to_xyxy
from common.datasets.splits import fold, inside
from common.datasets.vindr import TABLES, first_file, of_vindr
from common.images.files import check_images, image_size

logger = logging.getLogger(__name__)
# VinDr-CXR's local labels, in the official order
LABELS = (
    "Aortic enlargement", "Atelectasis", "Calcification", "Cardiomegaly", "Clavicle fracture", "Consolidation", "Edema",
    "Emphysema", "Enlarged PA", "ILD", "Infiltration", "Lung Opacity", "Lung cavity", "Lung cyst", "Mediastinal shift",
    "Nodule/Mass", "Pleural effusion", "Pleural thickening", "Pneumothorax", "Pulmonary fibrosis", "Rib fracture",
    "Other lesion",
)  # fmt: skip
VERY_LARGE, NO_SIZE = (10**9, 10**9), (0, 0)  # an image that no box leaves; one without boxes
SLACK = 2.0  # pixels that a box may leave the image by rounding
OUTSIDE = 0.05  # share of boxes that may leave their images


def read_boxes(root: str, split: str, *, classes: Sequence[str], check: bool = True) -> list[dict]:
    """Return ``image`` (path), ``boxes`` float32 (M, 4) as x1, y1, x2, y2, ``labels`` int64 (M,) for each image.

    Boxes are cut off at the image's border; those without area are left out, and so are classes that ``classes`` lacks;
    both are counted in the log. Boxes of JSON files are x, y, width, height, unless :func:`as_corners` finds otherwise.

    Args:
        split: ``train``, ``val``, ``test`` or ``unlabel`` (whose images need no boxes).
        check: look at the images (:func:`common.images.files.check_images`).

    Raises:
        FileNotFoundError: no annotation file of the split, or an image is missing.
        ValueError: an entry of no known form, a coordinate that is no number, an image of another size than its entry
            says, a damaged image, no image at all; or ``classes`` twice, or none of them a label of the data set.
    """
    require_labels(classes, what="label_names")
    raw, wide = _raw(Path(root), split)
    if raw is None:
        raise FileNotFoundError(
            f"dataset_dir: {root!r} has no coco_{split}.json, no train.csv and no annotation.json with boxes"
        )
    if not raw:
        raise ValueError(f"dataset_dir: {root!r} has no image in split {split!r}")
    _require_known(Path(root), raw, classes)
    if check:
        check_images([image.path for image in raw], root=root)
    look = image_size if check else size_if_any
    sizes = [look(image.path) if len(image.boxes) else NO_SIZE for image in raw]
    for image, size in zip(raw, sizes, strict=True):
        if size not in (VERY_LARGE, NO_SIZE):
            require_size(size, image.size, image=image.path, where=f"split {split!r}")
    if wide:
        corners = as_corners([image.boxes for image in raw], sizes, what=split)
        raw = [image._replace(boxes=boxes) for image, boxes in zip(raw, corners, strict=True)]
    return _clean(raw, sizes, {name: number for number, name in enumerate(classes)}, split)


def require_labels(names: object, *, what: str) -> list[str]:
    """``names``, a list of different texts.

    Args:
        what: the option that gives them, which begins the message.

    Raises:
        ValueError: they are something else.
    """
    if not isinstance(names, list | tuple) or not names or not all(isinstance(name, str) and name for name in names):
        raise ValueError(f'{what}: {names!r:.80} is no list of texts; pass one such as ["Nodule/Mass", "Edema"]')
    twice = next((name for name, count in Counter(names).items() if count > 1), None)
    if twice is not None:
        raise ValueError(f"{what}: {twice!r} is there twice; name each label once")
    return list(names)


def _require_known(root: Path, raw: Sequence[Boxed], classes: Sequence[str]) -> None:
    """Refuse ``classes`` of which no box of ``raw``, nor of another split of ``root``, has one."""
    labels = {name for image in raw for name in image.names}
    if not labels or not labels.isdisjoint(classes):
        return
    for split in ("train", "val", "test"):
        with suppress(FileNotFoundError, ValueError):  # of a split that nobody asked for
            labels |= {name for image in _raw(root, split)[0] or [] for name in image.names}
    if labels.isdisjoint(classes):
        raise ValueError(
            f"label_names: none of {list(classes)} is the label of a box of {str(root)!r}, whose labels are "
            f"{sorted(labels)}; pass some of these"
        )


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
    if split != "unlabel" and first_file(folder, *TABLES) is not None:
        return "vindr"
    return "studies" if split != "unlabel" and first_file(folder, "annotation.json") is not None else None


def _raw(folder: Path, split: str) -> tuple[list[Boxed] | None, bool]:
    """Images of a split, and whether their boxes are x, y, width, height."""
    if (source := _source(folder, split)) == "coco":
        return _of_coco(folder, split), True
    if source == "vindr":
        return of_vindr(folder, split), False
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
    return [to_xyxy(rows) for rows in boxes]


def are_corners(boxes: Sequence[np.ndarray], sizes: Sequence[tuple[int, int]]) -> bool:
    """Whether more than ten times as many boxes fail as x, y, width, height as fail as corners."""
    as_wide = as_corner = 0
    for rows, size in ((rows, size) for rows, size in zip(boxes, sizes, strict=True) if len(rows)):
        limit = np.array([*size, *size]) + SLACK
        as_corner += int(((rows[:, 2:] < rows[:, :2]).any(1) | (rows > limit).any(1)).sum())
        as_wide += int((rows[:, :2] + rows[:, 2:] > limit[:2]).any(1).sum())
    return as_wide > 10 * as_corner


def key_of(path: str | Path, folder: Path) -> str:
    """What an image is known by: its path in ``folder`` without suffix, parts joined by "_"."""
    return "_".join(Path(path).relative_to(folder).with_suffix("").parts)


def _coco_file(folder: Path, split: str) -> Path | None:
    """The split's own file; of ``val`` the training file, where there is none."""
    file = first_file(folder, f"coco_{split}.json", f"coco_annotations_{split}.json")
    return _coco_file(folder, "train") if file is None and split == "val" else file


def _of_coco(folder: Path, split: str) -> list[Boxed]:
    """Images of a split of COCO files. Without a file ``val``, fold 0 of training, by file name, validates."""
    file = _coco_file(folder, split)
    assert file is not None
    images_split = split if split != "val" or file.stem.endswith("val") else "train"
    images = next((f for f in (folder / images_split, folder / "images") if f.is_dir()), folder)
    results = _of_coco_file(file, images)
    if split in ("train", "val") and _coco_file(folder, "train") == _coco_file(folder, "val"):
        return [image for image in results if (fold(key_of(image.path, images)) == 0) == (split == "val")]
    return results


def _of_coco_file(file: Path, images: Path) -> list[Boxed]:
    content = read_json(file, what="dataset_dir")
    try:
        names = {id_of(category["id"]): str(category["name"]) for category in content.get("categories", [])}
        labels: dict[str, list[str]] = defaultdict(list)
        boxes: dict[str, list[list[float]]] = defaultdict(list)
        for entry in content.get("annotations", []):
            image = id_of(entry["image_id"])
            labels[image].append(names[id_of(entry["category_id"])])
            boxes[image].append(four(entry["bbox"], where=f"image {image!r} in {str(file)!r}"))
        known = [id_of(entry["id"]) for entry in content["images"]]
        require_matched(known, boxes, where=str(file))
        return [
            Boxed(inside(images, entry["file_name"]), labels[id], array_of(boxes[id]), size_told(entry))
            for id, entry in zip(known, content["images"], strict=True)
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{str(file)!r} is no COCO file of boxes: {error!r}; export it again") from error


def _of_studies(annotation: Path, split: str, *, labelled: bool = True) -> list[Boxed]:
    """First images of studies, whose boxes must have labels if ``labelled``; free slots are left out."""
    entries = load_annotation(annotation)[split]
    folder = image_folder(annotation.parent, entries)
    return [_of_study(entry, annotation, folder, labelled) for entry in entries]


def _of_study(entry: dict, annotation: Path, folder: Path, labelled: bool) -> Boxed:
    path = inside(folder, image_names(entry, annotation)[0])
    if not labelled:
        return Boxed(path, [], array_of([]))
    where = entry_named(entry, annotation)
    if entry.get("boxes") is None or entry.get("box_labels") is None:
        raise ValueError(f"boxes of {where}: a box_label for each is missing; add boxes and box_labels, [] without any")
    boxes, labels, _ = boxes_of(entry, where=where)
    return Boxed(path, labels, boxes, size_told(entry))


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
