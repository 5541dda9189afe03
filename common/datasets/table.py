"""One table for every bundle: ``cases.csv`` in a data set's folder, paths relative to it.

- ``image``, or ``image_1, image_2, ...``: files; a study of sgf or d2rnet has all of a row
- ``mask``, or ``mask_1, mask_2, ...``: of the nodule in each image, for akessfa, clip_tnseg, hfcn
- ``report`` or ``report_file``: the text, or a ``.txt`` file that holds it
- ``label``: benign or malignant (0 or 1), for hfcn; ``malignant`` and ``tirads`` do, too
- ``patient_id``: whose images stay in one split; else ``patient``, ``case``, ``report_id``, the first that is there
- ``split``: train, validation, test; without it patients are divided by the hash of their name
- ``boxes``, ``box_labels``, ``scores``: of a chest X-ray's lesions, as JSON: [[x, y, width, height], ...], [...], [...]
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from common.cli.atomic import write_rows
from common.cli.reading import Row, cell_of, header_of, read_table, read_text
from common.datasets.splits import inside, require_apart, split_named, three_way_split

logger = logging.getLogger(__name__)
NAME = "cases.csv"
PATIENT = ("patient_id", "patient", "case", "report_id")  # the first that a row has
CLASSES = {"benign": "0", "malignant": "1", "0": "0", "1": "1", "": ""}
NUMBERED = re.compile(r"(image|mask)(_\d+)?")
KNOWN = {*PATIENT, "report", "report_file", "label", "malignant", "tirads", "split", "boxes", "box_labels", "scores",
         "study_id"}  # fmt: skip
EXPECTED = "image (or image_1, image_2, ...), mask, report or report_file, label, patient_id, split"


def is_table(folder: Path, *, masks: bool) -> bool:
    """Whether ``folder`` holds the table, with ``masks``, or with reports as studies need them."""
    columns = header_of(folder / NAME)
    needed = bool(_numbered(columns, "mask")) if masks else bool({"report", "report_file"} & columns)
    return bool(_numbered(columns, "image")) and needed


def read_case_table(root: str, split: str) -> list[dict]:
    """A dictionary for each image of ``split``: ``image, label`` (the mask), ``report, case``, and ``malignant``,
    ``tirads`` where the table tells.

    Raises:
        FileNotFoundError: a ``report_file`` is missing.
        ValueError: columns or cells that are missing, an unknown class or split, an image twice.
    """
    path = Path(root) / NAME
    rows = _rows(path)
    masks = _numbered(rows[0].keys(), "mask")
    pairs = [(name, "mask" + name.removeprefix("image")) for name in _numbered(rows[0].keys(), "image")]
    if not masks:
        raise _missing(path, "mask", rows[0])
    _require_apart(rows, [image for image, _ in pairs], path)
    cases = []
    for row in rows:
        for image, mask in pairs if _split_of(row, path) == split else ():
            if not row[image]:
                continue
            if not row.get(mask):
                raise ValueError(
                    f"dataset_dir: line {row.line} of {str(path)!r}: {row[image]!r} has no {mask}; name it"
                )
            files = {"image": inside(Path(root), row[image]), "label": inside(Path(root), row[mask])}
            cases.append({**files, "report": _report_of(row, path), "case": _patient_of(row), **_class_of(row, path)})
    return cases


def read_study_table(root: str, split: str) -> list[dict]:
    """An entry for each row of ``split``, as R2Gen's annotation has it: ``id, report, image_path``, and its boxes.

    Raises:
        FileNotFoundError, ValueError: as :func:`read_case_table`.
    """
    path = Path(root) / NAME
    rows = _rows(path)
    images = _numbered(rows[0].keys(), "image")
    if not {"report", "report_file"} & rows[0].keys():
        raise _missing(path, "report", rows[0])
    _require_apart(rows, images, path)
    count: dict[str, int] = {}
    entries = []
    for row in rows:
        patient = _patient_of(row)
        count[patient] = count.get(patient, 0) + 1
        name = row.get("study_id") or (patient if count[patient] == 1 else f"{patient}_{count[patient]}")
        if _split_of(row, path) == split:
            paths = [row[name] for name in images if row[name]]
            told = {"id": name, "case": patient, "report": _report_of(row, path), "image_path": paths}
            entries.append({**told, **_boxes_of(row, path)})
    return entries


def _rows(path: Path) -> list[Row]:
    """Rows of the table; columns that nothing reads are told."""
    rows = read_table(path, what="dataset_dir")
    columns = rows[0].keys()
    if not _numbered(columns, "image"):
        raise _missing(path, "image", rows[0])
    if not {"report", "report_file", "label", "malignant", "tirads"} & columns:
        raise _missing(path, "report", rows[0])
    if not set(PATIENT) & columns:
        logger.warning("%s: no column patient_id: each row is taken for a patient of its own", path)
    elif nameless := sum(not any(row.get(name) for name in PATIENT) for row in rows):
        logger.warning("%s: %d rows without a patient_id: each is taken for a patient of its own", path, nameless)
    unsplit = sum(not row["split"] for row in rows) if "split" in columns else 0
    if 0 < unsplit < len(rows):
        logger.warning("%s: %d rows without a split: they are divided by the hash of their patient", path, unsplit)
    unread = [name for name in columns if name not in KNOWN and not NUMBERED.fullmatch(name)]
    if unread:
        logger.info("%s: columns that are not read: %s", path, ", ".join(unread))
    return rows


def _require_apart(rows: Sequence[Row], columns: Sequence[str], path: Path) -> None:
    """Refuse an image that stands twice, rows without one, and patients of several splits.

    Raises:
        ValueError: with the first of them.
    """
    images = []
    for row in rows:
        named = [inside(path.parent, row[name]) for name in columns if row[name]]
        if not named:
            raise ValueError(f"dataset_dir: line {row.line} of {str(path)!r} names no image; add it or remove the line")
        images += [(name, _split_of(row, path)) for name in named]
    require_apart(images, where=str(path))
    splits: dict[str, str] = {}
    for row in rows:
        split, patient = _split_of(row, path), _patient_of(row)
        if splits.setdefault(patient, split) != split:
            raise ValueError(
                f"dataset_dir: {str(path)!r}: patient {patient!r} is in {splits[patient]!r} and, in line {row.line}, "
                f"in {split!r}; keep a patient's images in one split"
            )


def _missing(path: Path, column: str, row: Mapping[str, str]) -> ValueError:
    return ValueError(f"dataset_dir: no column {column!r} in {str(path)!r}, which has {list(row)}; expected {EXPECTED}")


def _numbered(columns: Iterable[str], kind: str) -> list[str]:
    """``kind``, or ``kind_1``, ``kind_2`` and so on, in their order."""
    names = [name for name in columns if re.fullmatch(rf"{kind}(_\d+)?", name)]
    return sorted(names, key=lambda name: int(name.partition("_")[2] or 0))


def _patient_of(row: Mapping[str, str]) -> str:
    named = next((row[name] for name in PATIENT if row.get(name)), "")
    return named or next((row[name] for name in _numbered(row.keys(), "image") if row[name]), "")


def _split_of(row: Mapping[str, str], path: Path) -> str:
    return split_named(row["split"], where=str(path)) if row.get("split") else three_way_split(_patient_of(row))


def _report_of(row: Mapping[str, str], path: Path) -> str:
    """The report's text; "" where the row has none."""
    if row.get("report") or not row.get("report_file"):
        return row.get("report", "")
    return cell_of(read_text(inside(path.parent, row["report_file"]), what="report_file"))


def _class_of(row: Mapping[str, str], path: Path) -> dict[str, str]:
    told = {name: row[name] for name in ("tirads", "malignant") if name in row}
    if "label" in row:
        if row["label"].lower() not in CLASSES:
            raise ValueError(f"dataset_dir: label {row['label']!r} in {str(path)!r} is none of benign, malignant, 0, 1")
        known = CLASSES[row["label"].lower()]
        other = told.get("malignant", "").lower()
        if known and other in CLASSES and CLASSES[other] not in ("", known):
            raise ValueError(
                f"dataset_dir: {str(path)!r}: {_patient_of(row)!r} has label {row['label']!r} and malignant "
                f"{row['malignant']!r}; correct one, or leave one out"
            )
        told["malignant"] = known or told.get("malignant", "")
    return told


def _boxes_of(row: Mapping[str, str], path: Path) -> dict[str, list]:
    told = {}
    for name in ("boxes", "box_labels", "scores"):
        if row.get(name):
            try:
                told[name] = json.loads(row[name])
            except json.JSONDecodeError as error:
                raise ValueError(f"dataset_dir: {name} {row[name]!r} in {str(path)!r} is no JSON list") from error
    return told


def write_table(path: Path, rows: Sequence[Mapping[str, str]]) -> None:
    """Write ``rows``, whole or not at all."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    write_rows(path, [columns, *([row.get(name, "") for name in columns] for row in rows)])
