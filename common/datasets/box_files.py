"""Folders of lesion boxes, read and written as COCO files, VinDr-CXR's csv or an annotation of studies."""

from __future__ import annotations

import csv
import json
import logging
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from common.cli.reading import read_json
from common.datasets.annotation import SPLITS, image_names, load_annotation, save_annotation
from common.datasets.boxed import four, score_of
from common.datasets.boxes import key_of, read_boxes, split_images
from common.datasets.coco import coco_of, id_of, to_xywh, to_xyxy
from common.datasets.vindr import NOTHING
from common.images.files import image_size, open_image, to_grey

logger = logging.getLogger(__name__)
COCO = ("coco", "coco_annotations")
FOLDERS = ("images", "train", "val", "test", "unlabel")  # of all images


def read_splits(root: str, classes: Sequence[str]) -> dict[str, list[dict]]:
    """The splits of ``root`` that there are, as :func:`common.datasets.boxes.read_boxes` reads them.

    Raises:
        FileNotFoundError: none is there.
        ValueError: no box of ``classes`` is left.
    """
    splits = {split: read_boxes(root, split, classes=classes) for split in SPLITS.values() if split_images(root, split)}
    if not splits:
        raise FileNotFoundError(f"folder: {root!r} has no split train, val or test with boxes; see --help")
    if not any(len(case["boxes"]) for cases in splits.values() for case in cases):
        raise ValueError(
            f"folder: no box of {root!r} is left: none has area in its image and one of {list(classes)} as its label; "
            "pass --classes, or correct the boxes"
        )
    return splits


def named(splits: dict[str, list[dict]], root: Path) -> dict[str, list[dict]]:
    """The cases with ``name``, by :func:`common.datasets.boxes.key_of`, without the folder of all images.

    Raises:
        ValueError: two images have one name.
    """
    results, seen = {}, set()
    for split, cases in splits.items():
        results[split] = [{**case, "name": name_in(root, case["image"])} for case in cases]
        for case in results[split]:
            if case["name"] in seen:
                raise ValueError(f"image: {case['image']!r} has the name of another image; rename one of them")
            seen.add(case["name"])
    return results


def name_in(root: Path, image: str) -> str:
    """``CXR1_0`` of ``images/CXR1/0.png``."""
    parts = Path(image).relative_to(root).parts
    return key_of(image, root / parts[0] if len(parts) > 1 and parts[0] in FOLDERS else root)


def write_images(cases: Sequence[dict], folder: Path) -> None:
    """Each case's image as ``NAME.png``."""
    folder.mkdir(parents=True, exist_ok=True)
    for case in cases:
        to_grey(open_image(case["image"])).save(folder / f"{case['name']}.png")


def write_coco(splits: dict[str, list[dict]], folder: Path, classes: Sequence[str]) -> None:
    """COCO files with categories 1 to the number of ``classes``."""
    for split, cases in splits.items():
        write_images(cases, folder / "images")
        entries = [{"image_path": [f"{case['name']}.png"], **described(case, classes)} for case in cases]
        (folder / f"coco_{split}.json").write_text(json.dumps(coco_of(entries, classes)), encoding="utf-8")


def described(case: dict, classes: Sequence[str]) -> dict:
    """What an entry of an annotation says of a case's boxes."""
    width, height = image_size(case["image"])
    labels = [classes[label] for label in case["labels"].tolist()]
    scores = case.get("scores", np.ones(len(labels))).astype(float).round(4).tolist()
    boxes = as_wide(case["boxes"])
    return {"boxes": boxes, "box_labels": labels, "scores": scores, "height": height, "width": width}


def as_wide(boxes: np.ndarray) -> list[list[float]]:
    """Corners (M, 4) as x, y, width, height."""
    return to_xywh(boxes.astype(float)).round(2).tolist()


def write_vindr(splits: dict[str, list[dict]], folder: Path, classes: Sequence[str]) -> None:
    """VinDr-CXR's csv, with one reader ``R1``."""
    training = [case for split in ("train", "val") for case in splits.get(split, [])]
    for name, cases in (("train", training), ("test", splits.get("test", []))):
        if not cases:
            continue
        write_images(cases, folder / name)
        rows: list[list] = []
        for case in cases:
            boxes = zip(case["labels"].tolist(), case["boxes"].astype(float).round(2).tolist(), strict=True)
            current = [[case["name"], "R1", classes[label], *box] for label, box in boxes]
            rows += current or [[case["name"], "R1", NOTHING, "", "", "", ""]]
        with open(folder / f"annotations_{name}.csv", "w", newline="", encoding="utf-8") as file:
            header = ["image_id", "rad_id", "class_name", "x_min", "y_min", "x_max", "y_max"]
            csv.writer(file).writerows([header, *rows])


def write_annotation(splits: dict[str, list[dict]], studies: Path, file: Path, classes: Sequence[str]) -> None:
    """``studies`` with the boxes of the images of the same name; other studies stay as they are.

    Raises:
        ValueError: no study has an image of any case.
    """
    known = {case["name"]: case for cases in splits.values() for case in cases}
    content, count = load_annotation(studies), 0
    for entry in (entry for split in SPLITS.values() for entry in content[split]):
        case = known.get(key_of(image_names(entry, studies)[0], Path())) if entry.get("image_path") else None
        if case is not None:
            entry |= described(case, classes)
            count += 1
    if not count:
        raise ValueError(f"studies: no study of {str(studies)!r} has an image of that name; pass the images' own file")
    save_annotation(file, content)
    logger.info("%s: boxes in %d studies", file, count)


def read_results(root: str, split: str, results: Path, classes: Sequence[str]) -> dict[str, list[dict]]:
    """Images of a split with a detector's boxes (``image_id, category_id, bbox, score``) in place of the true ones.

    Raises:
        FileNotFoundError: ``root`` has no COCO file of the split.
        ValueError: an image or a category that the file does not know, or an entry without one box and its score.
    """
    files = [Path(root) / f"{name}_{split}.json" for name in COCO]
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        raise FileNotFoundError(f"split: {root!r} has no coco_{split}.json, of whose images results are; pass --split")
    names, labels = _known(file, classes)
    detections: dict[str, list[list[float]]] = defaultdict(list)
    for place, entry in enumerate(_listed(results), start=1):
        where = f"entry {place} of {str(results)!r}"
        try:
            image, category = id_of(entry["image_id"]), id_of(entry["category_id"])
            box, score = four(entry["bbox"], where=where), score_of(entry["score"], where=where)
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"results: {where}, {entry!r:.80}, has not image_id, category_id, bbox and score; export it again"
            ) from error
        if image not in names or category not in labels:
            raise ValueError(
                f"results: {entry} has an image or category that {str(file)!r} lacks; pass --split or --classes"
            )
        detections[names[image]].append([*box, labels[category], score])
    cases = read_boxes(root, split, classes=classes)
    for case in cases:
        table = np.array(detections[name_in(Path(root), case["image"])], dtype=np.float64).reshape(-1, 6)
        case |= {"boxes": to_xyxy(table[:, :4]), "labels": table[:, 4].astype(int), "scores": table[:, 5]}
    return {split: cases}


def _known(file: Path, classes: Sequence[str]) -> tuple[dict[str, str], dict[str, int]]:
    """What the images of a COCO file are known by, and the positions of its categories in ``classes``, by their ids."""
    content = read_json(file, what="folder")
    try:
        names = {id_of(image["id"]): key_of(image["file_name"], Path()) for image in content["images"]}
        labels = {id_of(entry["id"]): entry["name"] for entry in content["categories"]}
    except (KeyError, TypeError) as error:
        raise ValueError(f"folder: {str(file)!r} is no COCO file of boxes: {error!r}; export it again") from error
    return names, {id: classes.index(name) for id, name in labels.items() if name in classes}


def _listed(results: Path) -> list:
    """Entries of a detector's results."""
    content = read_json(results, what="results")
    if not isinstance(content, list):
        raise ValueError(f"results: {str(results)!r} is no list of boxes with scores; pass coco_instances_results.json")
    return content
