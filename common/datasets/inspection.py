"""What a data set holds: every image decoded once, and what of it a training would stumble over."""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from common.datasets.boxed import boxes_of, require_size, size_told
from common.datasets.layouts import list_dataset
from common.datasets.malignancy import malignancy
from common.datasets.studies import form_of, read_studies
from common.engine.failures import line_of
from common.images.dicom import source_of
from common.images.files import open_image, to_grey
from common.images.masks import read_mask

logger = logging.getLogger(__name__)
SPLITS = ("train", "validation", "test")
Item = TypeVar("Item")
TEMPLATED = "reports"  # the note that a data set has none of its own
MOST_COVERED = 0.8  # of an image or a crop, more than nodules and lesions cover
SEGMENTERS, GENERATORS = ("akessfa", "clip_tnseg", "hfcn"), ("sgf", "d2rnet")


@dataclass
class FileRecord:
    """What is known of an image file: width and height in pixels, digest of its bytes, or the error.

    Size in bytes and time of change are None where it is missing.
    """

    size: tuple[int, int] | None = None
    digest: str = ""
    error: str = ""
    bytes: int | None = None
    mtime: float | None = None
    empty: bool = False
    covered: float = 0.0  # share of the pixels that are a mask's foreground


@dataclass
class DatasetReport:
    """What was found in a data set: cases by split, files by name, and lines by kind of fault."""

    layout: str
    splits: dict[str, Sequence[dict]]
    files: dict[str, FileRecord] = field(default_factory=dict)
    faults: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    notes: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


def list_cases(root: str, bundle: str, annotation: str | None) -> DatasetReport:
    """The cases of every split, whose images are not opened yet.

    Raises:
        FileNotFoundError, ValueError: no such folder, no known layout, a table that cannot be read.
    """
    if bundle in SEGMENTERS:
        layout, cases = list_dataset(root, "train")
        dataset_report = DatasetReport(layout.description, {"train": cases})
        for split in SPLITS[1:]:
            try:
                dataset_report.splits[split] = list_dataset(root, split)[1]
            except ValueError as error:
                if not str(error).startswith("split: "):
                    raise
                dataset_report.notes[f"no {split} split"].append(line_of(error))  # a layout without such a one
        if layout.templated:
            dataset_report.notes[TEMPLATED].append(
                "the data set has none; they are sentences made of its masks and TI-RADS"
            )
        return dataset_report
    form = form_of(root, annotation)
    more = ("boxes", "scores", "box_labels", "width", "height")
    read = {
        split: read_studies(root, split, views=99, annotation=annotation, extras=more, check=False) for split in SPLITS
    }
    return DatasetReport(f"studies with reports: {form}", read)


def inspect(root: str, bundle: str, annotation: str | None = None) -> DatasetReport:
    """Everything that can be told of the data set ``root`` for ``bundle``.

    Raises:
        FileNotFoundError, ValueError: as :func:`list_cases`.
    """
    dataset_report = list_cases(root, bundle, annotation)
    masks = {case["label"] for case in all_cases(dataset_report) if isinstance(case.get("label"), str)}
    names = sorted({name for case in all_cases(dataset_report) for name in images_of(case)} | masks)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        seen = with_time_left(pool.map(lambda name: decode(name, name in masks), names), len(names))
        dataset_report.files = dict(zip(names, seen, strict=True))
    find_damaged(dataset_report, masks)
    find_copies(dataset_report, masks)
    find_leaks(dataset_report)
    if bundle == "hfcn":
        find_classes(dataset_report)
    if bundle == "d2rnet":
        find_boxes(dataset_report)
    return dataset_report


def all_cases(dataset_report: DatasetReport) -> Iterator[dict]:
    """Cases of all splits."""
    return (case for cases in dataset_report.splits.values() for case in cases)


def images_of(case: Mapping[str, Any]) -> list[str]:
    """Image files of a case."""
    return list(case["images"]) if "images" in case else [case["image"]]


def decode(name: str, is_mask: bool) -> FileRecord:
    """Decode the file ``name``."""
    path, frame = source_of(name)
    source = Path(path)
    if not source.is_file():
        return FileRecord(error="missing")
    known = source.stat()  # before it is read: what takes its place meanwhile is another file
    there: dict[str, Any] = {"bytes": known.st_size, "mtime": known.st_mtime}
    try:
        picture = open_image(name)
        pixels = np.asarray(read_mask(name) if is_mask else to_grey(picture))
    except Exception as error:  # whatever decoders make of damaged bytes
        return FileRecord(error=line_of(error), **there)
    content = source.read_bytes()
    digest = hashlib.sha256(content + (b"" if name == path else f"#{frame}".encode())).hexdigest()  # of a clip a frame
    covered = float(pixels.mean()) if is_mask else 0.0
    return FileRecord(picture.size, digest, empty=is_mask and not covered, covered=covered, **there)


def with_time_left(items: Iterable[Item], count: int) -> Iterator[Item]:
    """Yield ``items``; where that takes more than some seconds, say how far it is."""
    start = last = time.monotonic()
    for done, one in enumerate(items, start=1):
        yield one
        now = time.monotonic()
        if now - last > 5 and done < count:
            last = now
            logger.info("%d of %d images, %.0f s left", done, count, (now - start) / done * (count - done))


def find_damaged(dataset_report: DatasetReport, masks: set[str]) -> None:
    """Missing and damaged files, and masks that do not fit their images."""
    for name, seen in dataset_report.files.items():
        if seen.error:
            dataset_report.faults["missing" if seen.error == "missing" else "damaged"].append(
                name if seen.error == "missing" else seen.error
            )
    for name, mask in unlike_pairs(dataset_report):
        sizes = dataset_report.files[mask].size, dataset_report.files[name].size
        dataset_report.faults["mask of another size"].append(f"{mask}: {sizes[0]}, its image {sizes[1]}")
    empty = [mask for _, mask in pairs_of(dataset_report) if dataset_report.files[mask].empty]
    if empty:
        dataset_report.notes["empty mask"] += empty
    find_odd_masks(dataset_report)


def find_odd_masks(dataset_report: DatasetReport) -> None:
    """Masks that are hardly a nodule's: of most of the image, of several images, or the image itself."""
    images_of_mask: dict[str, list[str]] = defaultdict(list)
    for image, mask in pairs_of(dataset_report):
        if dataset_report.files[mask].covered > MOST_COVERED:
            dataset_report.notes["mask covers most of its image"].append(mask)
        if dataset_report.files[mask].digest:
            images_of_mask[mask].append(image)
            if dataset_report.files[mask].digest == dataset_report.files[image].digest:
                dataset_report.notes["mask is its image"].append(mask)
    several = [f"{mask}: {', '.join(images)}" for mask, images in images_of_mask.items() if len(set(images)) > 1]
    if several:
        dataset_report.notes["mask of several images"] += several


def pairs_of(dataset_report: DatasetReport) -> Iterator[tuple[str, str]]:
    """Names of each image and its mask."""
    return ((case["image"], case["label"]) for case in all_cases(dataset_report) if isinstance(case.get("label"), str))


def unlike_pairs(dataset_report: DatasetReport) -> Iterator[tuple[str, str]]:
    """Those whose mask has another size than the image."""
    for name, mask in pairs_of(dataset_report):
        sizes = dataset_report.files[name].size, dataset_report.files[mask].size
        if all(sizes) and sizes[0] != sizes[1]:
            yield name, mask


def find_copies(dataset_report: DatasetReport, masks: set[str]) -> None:
    """Images that are byte for byte alike, in one split or in several."""
    splits_of: dict[str, set[str]] = defaultdict(set)
    names_of: dict[str, set[str]] = defaultdict(set)
    for split, cases in dataset_report.splits.items():
        for name in (name for case in cases for name in images_of(case)):
            if digest := dataset_report.files[name].digest:
                splits_of[digest].add(split)
                names_of[digest].add(name)
    for digest, names in names_of.items():
        if len(splits_of[digest]) > 1:
            where = ", ".join(split for split in SPLITS if split in splits_of[digest])
            dataset_report.faults["image in several splits"].append(f"{' = '.join(sorted(names))} ({where})")
        elif len(names) > 1:
            dataset_report.notes["same image twice"].append(" = ".join(sorted(names)))


def find_leaks(dataset_report: DatasetReport) -> None:
    """Patients, or studies, in several splits."""
    splits_of: dict[str, list[str]] = defaultdict(list)
    for split, cases in dataset_report.splits.items():
        for name in {str(case.get("case", case.get("study"))) for case in cases}:
            splits_of[name].append(split)
    shared = [f"{name} ({', '.join(splits)})" for name, splits in splits_of.items() if len(splits) > 1]
    if shared:
        dataset_report.faults["patient in several splits"] += shared


def find_classes(dataset_report: DatasetReport) -> None:
    """Images of unknown class, and splits with one class alone."""
    for split, cases in dataset_report.splits.items():
        classes = Counter(malignancy(case) for case in cases)
        if classes[None]:
            dataset_report.notes["left out"].append(f"{split}: {classes[None]} images of no known class")
        if split != "test" and not (classes[0] and classes[1]):
            dataset_report.faults["one class alone"].append(f"{split}: {classes[0]} benign, {classes[1]} malignant")


def find_boxes(dataset_report: DatasetReport) -> None:
    """Boxes of studies that a training on reports refuses."""
    for study in all_cases(dataset_report):
        image, where = study["images"][0], f"study {study['study']!r}"
        try:
            told = boxes_of(study, where=where)
            if len(told.boxes) and (size := dataset_report.files[image].size):
                require_size(size, size_told(study), image=image, where=where)
        except ValueError as error:
            dataset_report.faults["broken boxes"].append(line_of(error))
