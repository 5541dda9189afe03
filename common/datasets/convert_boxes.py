"""Lesion boxes from one form to another: ``python -m common.datasets.convert_boxes FOLDER --to coco --target NEW``.

FOLDER holds COCO files, VinDr-CXR's csv (three readers are fused) or an annotation of studies with labelled boxes. NEW
gets ``coco``: ``coco_{train,val,test}.json``, ``images/``; ``vindr``: ``annotations_train.csv`` with ``train/`` (whose
fifth, by name, validates; training and validation images are shared out anew) and ``annotations_test.csv`` with
``test/``; ``annotation``: a copy of the ``annotation.json`` of ``--studies`` whose studies have the boxes of the images
of the same name, in ``boxes``, ``box_labels``, ``scores``, ``height`` and ``width``. Images are written as 8-bit grey
PNG, DICOM included. ``--results coco_instances_results.json`` are a detector's boxes with scores for the images of one
split, in place of the true ones.
"""

from __future__ import annotations

import argparse
import logging
from pathlib import Path

from common.cli.atomic import whole_folder
from common.cli.reading import read_json
from common.datasets.box_files import named, read_results, read_splits, write_annotation, write_coco, write_vindr
from common.datasets.boxes import LABELS, require_labels


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", help="what is read")
    parser.add_argument("--to", choices=("coco", "vindr", "annotation"), required=True)
    parser.add_argument("--target", type=Path, required=True, help="a new folder; of annotation, a new file")
    parser.add_argument("--studies", type=Path, help="annotation.json that gets the boxes")
    parser.add_argument("--results", type=Path, help="a detector's boxes for the images of --split")
    parser.add_argument("--split", default="test", help="of --results: train, val, test or unlabel")
    parser.add_argument("--classes", type=Path, help="JSON list of labels; else VinDr-CXR's 22")
    arguments = parser.parse_args()
    try:
        convert(arguments)
    except (ValueError, FileNotFoundError, FileExistsError) as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from error


def convert(arguments: argparse.Namespace) -> None:
    """Read, and write what ``--to`` says, whole or not at all.

    Raises:
        FileExistsError: the target is there already.
        FileNotFoundError: no split, or no file of the classes.
        ValueError: classes that are no list of names, ``--to annotation`` without ``--studies``, or boxes, results or
            studies that cannot be read.
    """
    file = arguments.classes
    classes = (
        LABELS if file is None else require_labels(read_json(file, what="classes"), what=f"classes: {str(file)!r}")
    )
    if arguments.target.exists():
        raise FileExistsError(f"target: {str(arguments.target)!r} is there already; pass a new name")
    if arguments.results is None:
        splits = read_splits(arguments.folder, classes)
    else:
        splits = read_results(arguments.folder, arguments.split, arguments.results, classes)
    splits = named(splits, Path(arguments.folder))
    if arguments.to == "annotation":
        if arguments.studies is None:
            raise ValueError("studies: --to annotation needs the annotation.json that gets the boxes; pass --studies")
        write_annotation(splits, arguments.studies, arguments.target, classes)
        return
    with whole_folder(str(arguments.target)) as folder:
        write = write_coco if arguments.to == "coco" else write_vindr
        folder.mkdir(parents=True, exist_ok=True)
        write(splits, folder, classes)


if __name__ == "__main__":
    main()
