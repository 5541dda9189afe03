"""VinDr-CXR's table of boxes (Nguyen et al. 2022), and its Kaggle form: three readers, whose boxes are fused."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np

from common.cli.reading import read_table
from common.datasets.box_fusion import fuse
from common.datasets.boxed import Boxed, array_of, four
from common.datasets.splits import fold, inside
from common.images.dicom import SUFFIXES

TABLES = ("annotations/annotations_train.csv", "annotations_train.csv", "train.csv")
NOTHING = "No finding"
ENDS = (".png", ".jpg", ".jpeg", *SUFFIXES)
COLUMNS = ("image_id", "class_name", "x_min", "y_min", "x_max", "y_max")


def first_file(folder: Path, *names: str) -> Path | None:
    """The first of ``names`` that is a file of ``folder``."""
    return next((folder / name for name in names if Path(inside(folder, name)).is_file()), None)


def of_vindr(folder: Path, split: str) -> list[Boxed]:
    """Images of a split of VinDr's csv, three readers fused; fold 1 validates, fold 0 tests where no test file is."""
    table = first_file(folder, *TABLES)
    assert table is not None
    test = first_file(folder, "annotations/annotations_test.csv", "annotations_test.csv", "test.csv")
    if split == "test" and test is not None:
        return _of_csv(test, folder / "test", set(range(5)))
    training = {2, 3, 4} if test is None else {0, 2, 3, 4}
    return _of_csv(table, folder / "train", {"test": {0}, "val": {1}}.get(split, training))


def _of_csv(table: Path, images: Path, folds: set[int]) -> list[Boxed]:
    votes: dict[str, dict[str, list]] = defaultdict(lambda: defaultdict(list))
    for row in read_table(table, what="dataset_dir", columns=COLUMNS):
        of_image = votes[row["image_id"]]
        if row["class_name"] != NOTHING:
            where = f"image {row['image_id']!r} in {str(table)!r}"
            of_image[row["class_name"]].append(four([row[key] for key in COLUMNS[2:]], where=where))
    results = []
    for name in (name for name in votes if fold(name) in folds):
        path = first_file(images, *(name + end for end in ENDS))
        if path is None:
            raise FileNotFoundError(
                f"image: no file {str(images / name)!r} with any of {ENDS}; restore it or remove its rows"
            )
        fused = {label: fuse(np.array(boxes)) for label, boxes in votes[name].items()}
        labels = [label for label, boxes in fused.items() for _ in boxes]
        results.append(Boxed(str(path), labels, array_of([box for boxes in fused.values() for box in boxes])))
    return results
