"""MIMIC-CXR as it is handed out (Johnson et al. 2019), as the annotation of studies that the other readers take.

Images in ``files/p10/p10000032/s50414267/DICOM_ID.{jpg,png,dcm}``; beside ``files/`` the tables
``mimic-cxr-2.0.0-split.csv`` and, where they are, ``...-metadata.csv`` and ``...-chexpert.csv``, packed (.gz) or not;
reports ``p10/p10000032/s50414267.txt`` in ``mimic-cxr-reports/files/``, ``mimic-cxr-reports/``, ``reports/`` or
``files/``.

``python -m common.datasets.mimic FOLDER [--out annotation.json]`` writes the annotation, which starts faster than
some hundred thousand text files, and which ``pseudo_label.json`` adds boxes to.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import logging
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

from common.cli.atomic import write_json
from common.cli.reading import cell_of, read_text

logger = logging.getLogger(__name__)
SPLITS = {"train": "train", "validate": "val", "test": "test"}
REPORTS = ("mimic-cxr-reports/files", "mimic-cxr-reports", "reports", "files")
ENDS = (".jpg", ".png", ".dcm")
FRONTAL = ("PA", "AP")  # views that stand first, in this order
OBSERVATIONS = (  # of CheXpert's labeller, columns of its table
    "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Enlarged Cardiomediastinum", "Fracture", "Lung Lesion",
    "Lung Opacity", "No Finding", "Pleural Effusion", "Pleural Other", "Pneumonia", "Pneumothorax", "Support Devices",
)  # fmt: skip
LABELS = (1, 0, -1)  # of CheXpert: present, absent, uncertain
BROKEN = (gzip.BadGzipFile, EOFError, zlib.error, UnicodeError, csv.Error)  # what damaged tables end in
HEADING = re.compile(r"^[ \t]*([A-Z][A-Z0-9 ,/&()\-]*?)[ \t]*:", re.MULTILINE)
WANTED = ("FINDINGS", "IMPRESSION")  # sections that are a report, the first that is there


def is_mimic(root: Path) -> bool:
    """Whether ``root`` is a folder of MIMIC-CXR."""
    return table(root, "split") is not None and (root / "files").is_dir()


def table(root: Path, name: str) -> Path | None:
    """The table ``name`` of any version, packed or not; None where it is missing."""
    return next((file for end in ("csv", "csv.gz") for file in sorted(root.glob(f"mimic-cxr-*-{name}.{end}"))), None)


def read_mimic(root: Path, splits: tuple[str, ...] = tuple(SPLITS.values())) -> dict[str, list[dict]]:
    """Content of an annotation: ``id, case, report, image_path, findings`` of each study of ``splits``.

    Frontal views stand first. ``report`` is the section FINDINGS, IMPRESSION where there is none, "" where both are
    missing. ``findings`` are CheXpert's: 1 present, 0 absent, -1 uncertain; None without the table.

    Raises:
        FileNotFoundError: no reports.
        ValueError: a table is damaged, lacks a column or a cell, or has a label that is none of CheXpert's; a study of
            two splits or patients, or a split that is none of MIMIC's.
    """
    views, labels = _views(root), _labels(root)
    folder = _reports_of(root)
    content: dict[str, list[dict]] = {split: [] for split in SPLITS.values()}
    end = None
    for split, patient, study, images in _studies(root):
        if split not in splits:
            continue
        place = f"{patient[:3]}/{patient}/{study}"
        end = end or _ending(root / "files" / place, images[0])
        ordered = sorted(images, key=lambda image: (_rank(views.get(image, "")), image))
        content[split].append({
            "id": study, "case": patient, "report": report_of(folder / f"{place}.txt"),
            "image_path": [f"{place}/{image}{end}" for image in ordered], "findings": labels.get(study),
        })  # fmt: skip
    return content


def _studies(root: Path) -> Iterator[tuple[str, str, str, list[str]]]:
    """Split, patient, study and images of each study, in the table's order."""
    file = table(root, "split")
    assert file is not None
    known: dict[str, tuple[str, str, str, list[str]]] = {}
    for image, study, patient, split in _rows(file, "dicom_id", "study_id", "subject_id", "split"):
        if split not in SPLITS:
            raise ValueError(f"dataset_dir: {str(file)!r} has the split {split!r}, which is none of {list(SPLITS)}")
        told = (SPLITS[split], f"p{patient}", f"s{study}")
        entry = known.setdefault(study, (*told, []))
        if entry[:3] != told:
            raise ValueError(
                f"dataset_dir: {str(file)!r}: study {study!r} is in {entry[0]!r} of {entry[1]} and in {told[0]!r} "
                f"of {told[1]}; keep a study in one split, of one patient"
            )
        entry[3].append(image)
    return iter(known.values())


def _rows(file: Path, *columns: str) -> Iterator[tuple[str, ...]]:
    """The cells of ``columns``, row by row."""
    return (cells for _, cells in _numbered_rows(file, *columns))


def _numbered_rows(file: Path, *columns: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    """The line and the cells of ``columns`` of each row that is not empty."""
    opener = gzip.open if file.suffix == ".gz" else open
    try:
        with opener(file, "rt", encoding="utf-8-sig", newline="") as lines:  # type: ignore[operator]
            reader = csv.reader(lines)
            header = next(reader, [])
            missing = [name for name in columns if name not in header]
            if missing:
                raise ValueError(
                    f"dataset_dir: {str(file)!r} has no column {missing[0]!r}, but {header}; fetch it again"
                )
            columns_read = [header.index(name) for name in columns]
            for cells in filter(None, reader):
                if len(cells) != len(header):
                    raise ValueError(
                        f"dataset_dir: line {reader.line_num} of {str(file)!r} has {len(cells)} cells, the header "
                        f"{len(header)}; fetch it again"
                    )
                yield reader.line_num, tuple(cells[column] for column in columns_read)
    except BROKEN as error:
        raise ValueError(f"dataset_dir: {str(file)!r} is damaged ({error}); fetch it again") from error


def _views(root: Path) -> dict[str, str]:
    file = table(root, "metadata")
    return {} if file is None else dict(_rows(file, "dicom_id", "ViewPosition"))  # type: ignore[arg-type]


def _rank(view: str) -> int:
    return FRONTAL.index(view) if view in FRONTAL else len(FRONTAL)


def _labels(root: Path) -> dict[str, dict[str, int]]:
    """CheXpert's labels of each study, those that are given."""
    file = table(root, "chexpert")
    if file is None:
        return {}
    labels: dict[str, dict[str, int]] = {}
    for line, (study, *cells) in _numbered_rows(file, "study_id", *OBSERVATIONS):
        given = zip(OBSERVATIONS, map(cell_of, cells), strict=True)
        labels[f"s{study}"] = {
            name: _label(cell, f"{name} in line {line} of {str(file)!r}") for name, cell in given if cell
        }
    return labels


def _label(cell: str, where: str) -> int:
    try:
        return LABELS[LABELS.index(float(cell))]
    except ValueError as error:
        raise ValueError(f"dataset_dir: {where} is {cell!r}, neither 1, 0, -1 nor empty; correct it") from error


def _ending(folder: Path, image: str) -> str:
    """Of the images: that of the first one."""
    return next((end for end in ENDS if (folder / f"{image}{end}").is_file()), ENDS[0])


def _reports_of(root: Path) -> Path:
    """The folder with ``p10/.../s50414267.txt``."""
    for name in REPORTS:
        if next((root / name).glob("p[0-9]*/p[0-9]*/s[0-9]*.txt"), None) is not None:
            return root / name
    raise FileNotFoundError(
        f"dataset_dir: no report in {str(root)!r}: none of {', '.join(REPORTS)} has p10/p10000032/s50414267.txt; "
        "unpack mimic-cxr-reports.zip there"
    )


def report_of(file: Path) -> str:
    """The report in ``file``, in one line; "" where there is none, or none with a known section."""
    if not file.is_file():
        return ""
    sections = sections_of(read_text(file, what="report"))
    return next((sections[name] for name in WANTED if sections.get(name)), "")


def sections_of(text: str) -> dict[str, str]:
    """Sections of a report by their headings, lines joined; of several with one heading the last that says something.

    A heading stands at the beginning of a line, in capitals, before a colon.
    """
    marks = list(HEADING.finditer(text))
    ends = [*(mark.start() for mark in marks[1:]), len(text)][: len(marks)]
    sections: dict[str, str] = {}
    for mark, end in zip(marks, ends, strict=True):
        content = " ".join(text[mark.end() : end].split())
        name = next((known for known in WANTED if known in mark[1]), mark[1].strip())
        sections[name] = content or sections.get(name, "")
    return sections


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="with files/ and mimic-cxr-2.0.0-split.csv")
    parser.add_argument("--out", type=Path, help="the annotation; default annotation.json in FOLDER")
    arguments = parser.parse_args()
    root, out = arguments.folder, arguments.out or arguments.folder / "annotation.json"
    if not is_mimic(root):
        raise SystemExit(f"folder: {str(root)!r} has no files/ or no mimic-cxr-2.0.0-split.csv; pass MIMIC-CXR's own")
    if out.exists():
        raise SystemExit(f"out: {str(out)!r} is there already; pass another name, or remove it")
    content = read_mimic(root)
    write_json(out, content)
    counts = ", ".join(
        f"{split} {len(entries)} studies ({sum(not entry['report'] for entry in entries)} without a report)"
        for split, entries in content.items()
    )
    logger.info("%s: %s", out, counts)


if __name__ == "__main__":
    main()
