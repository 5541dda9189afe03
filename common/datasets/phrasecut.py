"""The format of PhraseCut (Wu et al. 2020), in which CLIP-TNseg's data are published: phrases with polygons.

``image_data_split.json`` lists the images with their split, ``refer_{train,val,test}.json`` one task for each phrase of
an image, ``images/{image_id}.jpg`` (or .png) the images. The files lie in the folder itself, in
``data/VGPhraseCut_v0/`` or in ``third_party/thyroid/data/``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from contourpy import contour_generator

from common.cli.reading import read_json
from common.datasets.phrases import phrase_of
from common.datasets.splits import inside, tell_of_leaks
from common.images.files import open_image, to_grey
from common.images.masks import read_mask

FOLDERS = (".", "data/VGPhraseCut_v0", "third_party/thyroid/data")
SPLITS = {"train": "train", "validation": "val", "test": "test"}


def phrasecut_folder(root: Path) -> Path | None:
    """The folder under ``root`` that holds ``image_data_split.json``, if one does."""
    return next((root / name for name in FOLDERS if (root / name / "image_data_split.json").is_file()), None)


def read_phrasecut(root: str, split: str) -> list[dict]:
    """Return a dictionary for each phrase of ``split``: ``image, label`` (polygons), ``report, phrase, case``.

    Raises:
        FileNotFoundError: a JSON file or an image is missing.
        ValueError: an unknown ``split``, or a task without polygons.
    """
    folder = phrasecut_folder(Path(root))
    if folder is None:
        raise FileNotFoundError(f"dataset_dir: no image_data_split.json in {root!r}; PhraseCut has one")
    if split not in SPLITS:
        raise ValueError(f"split: {split!r} is none of {sorted(SPLITS)}")
    paths = {name: folder / f"refer_{name}.json" for name in SPLITS.values()}
    own = SPLITS[split]
    tasks = {name: _tasks(path) for name, path in paths.items() if name == own or path.is_file()}
    images = {name: [task.get("image_id", "") for task in listed] for name, listed in tasks.items()}
    tell_of_leaks(images, what="images", where=str(folder))
    return [_case(folder, paths[own], task) for task in tasks[own]]


def _tasks(path: Path) -> list[dict]:
    if not path.is_file():
        raise FileNotFoundError(f"dataset_dir: no file {str(path)!r}; a PhraseCut folder has one for each split")
    tasks = read_json(path, what="dataset_dir")
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise ValueError(f"dataset_dir: {str(path)!r} is no list of tasks; PhraseCut has one for each phrase")
    return tasks


def _case(folder: Path, path: Path, task: dict) -> dict:
    name = task.get("task_id", task.get("image_id"))
    if "image_id" not in task or not isinstance(task.get("phrase"), str):
        raise ValueError(f"dataset_dir: task {name!r} of {str(path)!r} lacks image_id or phrase; correct or remove it")
    try:
        polygons = [[[float(x), float(y)] for x, y in polygon] for part in task["Polygons"] for polygon in part]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"dataset_dir: Polygons of task {name!r} of {str(path)!r} are no lists of points x, y; correct the task"
        ) from error
    if not any(len(polygon) > 2 for polygon in polygons):
        raise ValueError(f"dataset_dir: task {name!r} of {str(path)!r} has no polygon of three points; remove it")
    names = [inside(folder, f"images/{task['image_id']}{suffix}") for suffix in (".jpg", ".png")]
    image = next((name for name in names if Path(name).is_file()), names[0])
    phrase = task["phrase"]
    return {"image": image, "label": polygons, "report": phrase, "phrase": phrase, "case": str(task["image_id"])}


def write_phrasecut(root: str, cases: dict[str, Sequence[dict]]) -> None:
    """Write cases by split ("train", ...) in this format; images become 8-bit grey PNG files named 0, 1, ...

    A case has ``image``, ``label`` (a mask's file) and what :func:`common.datasets.phrases.phrase_of` needs. Cases with
    an empty mask are left out: the format has no place for them.

    Raises:
        FileExistsError: ``root`` is there already.
    """
    folder = Path(root)
    (folder / "images").mkdir(parents=True, exist_ok=False)
    entries: list[dict] = []
    for split, group in cases.items():
        tasks = []
        for case in group:
            polygons = trace(read_mask(case["label"]))
            if not polygons:
                continue
            name = len(entries)
            image = to_grey(open_image(case["image"]))
            image.save(folder / "images" / f"{name}.png")
            width, height = image.size
            entries.append({"image_id": name, "width": width, "height": height, "split": SPLITS[split]})
            tasks.append(_task(name, phrase_of(case), polygons))
        (folder / f"refer_{SPLITS[split]}.json").write_text(json.dumps(tasks), encoding="utf-8")
    (folder / "image_data_split.json").write_text(json.dumps(entries), encoding="utf-8")


def _task(image: int, phrase: str, polygons: list[list[list[float]]]) -> dict:
    boxes = []
    for polygon in polygons:
        low, high = np.min(polygon, axis=0), np.max(polygon, axis=0)
        boxes.append([*low.tolist(), *(high - low).tolist()])
    return {
        "task_id": f"{image}__0",
        "image_id": image,
        "ann_ids": list(range(len(polygons))),
        "instance_boxes": boxes,
        "Polygons": [[polygon] for polygon in polygons],
        "phrase": phrase,
        "phrase_structure": {
            "name": "nodule", "attributes": [], "relation_ids": [], "relation_descriptions": [], "type": "",
        },
    }  # fmt: skip


def trace(mask: np.ndarray) -> list[list[list[float]]]:
    """Outlines ``[[x, y], ...]`` in pixels of a boolean mask (H, W); holes are not kept."""
    padded = np.pad(mask.astype(float), 1)
    lines: list[np.ndarray] = contour_generator(z=padded).lines(0.99)  # type: ignore[assignment]
    outer = [line - 1 for line in lines if len(line) >= 4 and _area(line) > 0]  # through the border pixels' centres
    return [np.round(line[:-1]).tolist() for line in outer]


def _area(line: np.ndarray) -> float:
    """Signed area: contourpy turns outlines and holes in opposite directions."""
    x, y = line[:, 0], line[:, 1]
    return float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]) / 2)
