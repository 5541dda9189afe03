"""Look at a data set before training: ``python -m common.cli.check DATASET_DIR --bundle NAME``.

Tells the recognised layout, what each split holds, and each image that is missing, damaged, twice there, or on both
sides of a split, with examples. Every image is decoded once, on all cores. The exit code is 0 where the bundle can
train on it, 1 where something must be mended, 2 where the layout is not understood.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import statistics
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from common.cli.atomic import write_json
from common.datasets.layouts import list_dataset
from common.datasets.malignancy import malignancy
from common.datasets.studies import annotation_file, read_studies
from common.datasets.table import NAME as TABLE
from common.datasets.table import is_table, write_table
from common.engine.failures import line_of
from common.images.dicom import source_of
from common.images.files import open_image, to_grey
from common.images.masks import read_mask

logger = logging.getLogger(__name__)
SPLITS = ("train", "validation", "test")
SEGMENTERS, GENERATORS = ("akessfa", "clip_tnseg", "hfcn"), ("sgf", "d2rnet")
EXAMPLES = 10


@dataclass
class Seen:
    """What is known of an image file: width and height in pixels, digest of its bytes; or the error."""

    size: tuple[int, int] | None = None
    digest: str = ""
    error: str = ""
    bytes: int = 0
    empty: bool = False


@dataclass
class Found:
    """What was found in a data set: cases by split, files by name, and lines by kind of fault."""

    layout: str
    splits: dict[str, list[dict]]
    files: dict[str, Seen] = field(default_factory=dict)
    faults: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    notes: dict[str, list[str]] = field(default_factory=lambda: defaultdict(list))


def list_cases(root: str, bundle: str, annotation: str | None) -> Found:
    """The cases of every split, whose images are not opened yet.

    Raises:
        FileNotFoundError, ValueError: no such folder, no known layout, a table that cannot be read.
    """
    if bundle in SEGMENTERS:
        layout, cases = list_dataset(root, "train")
        found = Found(layout.description, {"train": cases})
        for split in SPLITS[1:]:
            try:
                found.splits[split] = list_dataset(root, split)[1]
            except ValueError as error:  # a layout without such a split
                found.notes[f"no {split} split"].append(line_of(error))
        if layout.templated:
            found.notes["reports"].append("the data set has none; they are sentences made of its masks and TI-RADS")
        return found
    is_plain = annotation is None and is_table(Path(root), masks=False)
    file = Path(root) / TABLE if is_plain else annotation_file(Path(root), annotation)
    read = {split: read_studies(root, split, views=99, annotation=annotation, check=False) for split in SPLITS}
    return Found(f"studies with reports: {file.name}", read)


def check(root: str, bundle: str, annotation: str | None = None) -> Found:
    """Everything that can be told of the data set ``root`` for ``bundle``.

    Raises:
        FileNotFoundError, ValueError: as :func:`list_cases`.
    """
    found = list_cases(root, bundle, annotation)
    masks = {case["label"] for case in all_cases(found) if isinstance(case.get("label"), str)}
    names = sorted({name for case in all_cases(found) for name in images_of(case)} | masks)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found.files = dict(zip(names, told(pool.map(lambda name: look(name, name in masks), names), len(names)),
                               strict=True))  # fmt: skip
    find_damaged(found, masks)
    find_copies(found, masks)
    find_leaks(found)
    if bundle == "hfcn":
        find_classes(found)
    return found


def all_cases(found: Found) -> Iterator[dict]:
    """Cases of all splits."""
    return (case for cases in found.splits.values() for case in cases)


def images_of(case: Mapping[str, Any]) -> list[str]:
    """Image files of a case."""
    return list(case["images"]) if "images" in case else [case["image"]]


def look(name: str, is_mask: bool) -> Seen:
    """Decode the file ``name``."""
    source = Path(source_of(name)[0])
    if not source.is_file():
        return Seen(error="missing")
    try:
        picture = open_image(name)
        pixels = np.asarray(read_mask(name) if is_mask else to_grey(picture))
    except Exception as error:  # whatever decoders make of damaged bytes
        return Seen(error=line_of(error))
    content = source.read_bytes()
    digest = hashlib.sha256(content + name.removeprefix(str(source)).encode()).hexdigest()
    return Seen(picture.size, digest, bytes=len(content), empty=is_mask and not pixels.any())


def told(seen: Iterable[Seen], count: int) -> Iterator[Seen]:
    """Yield ``seen``; where that takes more than some seconds, say how far it is."""
    start = last = time.monotonic()
    for done, one in enumerate(seen, start=1):
        yield one
        now = time.monotonic()
        if now - last > 5 and done < count:
            last = now
            logger.info("%d of %d images, %.0f s left", done, count, (now - start) / done * (count - done))


def find_damaged(found: Found, masks: set[str]) -> None:
    """Missing and damaged files, and masks that do not fit their images."""
    for name, seen in found.files.items():
        if seen.error:
            found.faults["missing" if seen.error == "missing" else "damaged"].append(
                name if seen.error == "missing" else seen.error
            )
    for case in all_cases(found):
        if not isinstance(case.get("label"), str):
            continue
        image, mask = found.files[case["image"]], found.files[case["label"]]
        if image.size and mask.size and image.size != mask.size:
            found.faults["mask of another size"].append(f"{case['label']}: {mask.size}, its image {image.size}")
        if mask.empty:
            found.notes["empty mask"].append(case["label"])


def find_copies(found: Found, masks: set[str]) -> None:
    """Images that are byte for byte alike, in one split or in several."""
    splits_of: dict[str, set[str]] = defaultdict(set)
    names_of: dict[str, set[str]] = defaultdict(set)
    for split, cases in found.splits.items():
        for name in (name for case in cases for name in images_of(case)):
            if digest := found.files[name].digest:
                splits_of[digest].add(split)
                names_of[digest].add(name)
    for digest, names in names_of.items():
        if len(splits_of[digest]) > 1:
            where = ", ".join(split for split in SPLITS if split in splits_of[digest])
            found.faults["image in several splits"].append(f"{' = '.join(sorted(names))} ({where})")
        elif len(names) > 1:
            found.notes["same image twice"].append(" = ".join(sorted(names)))


def find_leaks(found: Found) -> None:
    """Patients, or studies, in several splits."""
    splits_of: dict[str, list[str]] = defaultdict(list)
    for split, cases in found.splits.items():
        for name in {str(case.get("case", case.get("study"))) for case in cases}:
            splits_of[name].append(split)
    shared = [f"{name} ({', '.join(splits)})" for name, splits in splits_of.items() if len(splits) > 1]
    if shared:
        found.faults["patient in several splits"] += shared


def find_classes(found: Found) -> None:
    """Images of unknown class, and splits with one class alone."""
    for split, cases in found.splits.items():
        classes = Counter(malignancy(case) for case in cases)
        if classes[None]:
            found.notes["left out"].append(f"{split}: {classes[None]} images of no known class")
        if split != "test" and not (classes[0] and classes[1]):
            found.faults["one class alone"].append(f"{split}: {classes[0]} benign, {classes[1]} malignant")


def summary(found: Found) -> list[tuple[str, ...]]:
    """A row a split: images, patients or studies, reports and their length in words, classes where known."""
    rows: list[tuple[str, ...]] = []
    for split, cases in found.splits.items():
        names = {str(case.get("case", case.get("study"))) for case in cases}
        texts = {str(case["report"]) for case in cases if case.get("report")}
        lengths = sorted(len(text.split()) for text in texts)
        length = f"{statistics.median(lengths):.0f} ({lengths[0]} to {lengths[-1]})" if lengths else ""
        known = Counter(malignancy(case) for case in cases if "images" not in case)
        classes = f"{known[0]} / {known[1]}" if known[0] + known[1] else ""
        count = sum(len(images_of(case)) for case in cases)
        rows.append((split, f"{count}", f"{len(names)}", f"{len(texts)}", length, classes))
    return rows


def report(found: Found, bundle: str, *, examples: int = EXAMPLES) -> int:
    """Log what was found; return the exit code."""
    logger.info("Layout: %s", found.layout)
    who = "studies" if bundle in GENERATORS else "patients"
    header = ("split", "images", who, "different reports", "words: median (range)", "benign / malignant")
    table = [header, *summary(found)]
    kept = [column for column in range(len(header)) if any(row[column] for row in table[1:])]
    widths = [max(len(row[column]) for row in table) for column in kept]
    for row in table:
        logger.info("%s", "  ".join(row[column].ljust(width) for column, width in zip(kept, widths, strict=True)))
    sizes = Counter(seen.size for seen in found.files.values() if seen.size)
    if sizes:
        (width, height), most = sizes.most_common(1)[0]
        logger.info("Images: %d sizes, most are %d x %d (%d files)", len(sizes), width, height, most)
    for kind, lines in [*found.faults.items(), *found.notes.items()]:
        logger.info("\n%s (%s)", kind, len(lines) if kind in found.faults else f"{len(lines)}, a note")
        for line in lines[:examples]:
            logger.info("  %s", line)
        if len(lines) > examples:
            logger.info("  ... and %d more", len(lines) - examples)
    empty = [split for split in SPLITS[:2] if not found.splits.get(split)]
    if found.faults or empty:
        what = [*found.faults, *(f"no image in split {split}" for split in empty)]
        logger.info("\nTo be mended before %s trains on it: %s", bundle, ", ".join(what))
        return 1
    logger.info("\n%s can train on it.", bundle)
    return 0


def table_of(found: Found, root: Path) -> list[dict[str, str]]:
    """The data set as rows of ``cases.csv`` (:mod:`common.datasets.table`).

    Raises:
        ValueError: masks that are no files.
    """

    def within(name: str) -> str:
        return Path(name).resolve().relative_to(root.resolve()).as_posix()

    rows = []
    for split, cases in found.splits.items():
        for case in cases:
            row = {f"image_{n}": within(name) for n, name in enumerate(images_of(case), start=1)}
            if "image" in case:
                if not isinstance(case["label"], str):
                    raise ValueError("--table: the masks of this layout are polygons and no files")
                row = {"image": within(case["image"]), "mask": within(case["label"])}
                row |= {name: case[name] for name in ("tirads", "malignant") if case.get(name)}
            who = str(case.get("case", case.get("study")))
            rows.append({**row, "report": case.get("report") or "", "patient_id": who, "split": split})
    return rows


def manifest(found: Found) -> dict[str, Any]:
    """Path, bytes, time of change, decoded size and SHA-256 of every file."""
    entries = {
        name: {
            "bytes": seen.bytes, "mtime": Path(source_of(name)[0]).stat().st_mtime, "size": seen.size,
            "sha256": seen.digest,
        }
        for name, seen in found.files.items() if not seen.error
    }  # fmt: skip
    return {"layout": found.layout, "files": entries}


def main(arguments: Sequence[str] | None = None) -> int:
    """Check and report; return the exit code."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
    parser = argparse.ArgumentParser(
        prog="python -m common.cli.check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("dataset_dir", help="folder of the data set")
    parser.add_argument("--bundle", required=True, choices=[*SEGMENTERS, *GENERATORS], help="that is to train on it")
    parser.add_argument("--annotation", help="sgf, d2rnet: the annotation file, where there are several")
    parser.add_argument("--examples", type=int, default=EXAMPLES, help="shown of each kind of fault (%(default)s)")
    parser.add_argument("--manifest", type=Path, help="write size, time and SHA-256 of every file to this JSON file")
    parser.add_argument("--table", type=Path, help="write the data set as a table, to lie in DATASET_DIR as cases.csv")
    options = parser.parse_args(arguments)
    try:
        found = check(options.dataset_dir, options.bundle, options.annotation)
        if options.table is not None:
            write_table(options.table, table_of(found, Path(options.dataset_dir)))
    except (FileNotFoundError, ValueError, json.JSONDecodeError) as error:
        logger.error("%s", line_of(error))
        return 2
    if options.manifest is not None:
        write_json(options.manifest, manifest(found), indent=1)
    return report(found, options.bundle, examples=options.examples)


if __name__ == "__main__":
    sys.exit(main())
