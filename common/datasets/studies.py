"""Studies with several images and one report, in both published forms of one JSON file beside its images.

SGF's ultrasound reports: ``{"train": [{"uid", "finding", "image_path", "labels", "split"}], "val", "test"}``, images in
a folder ``*_report/``. R2Gen's annotation: ``"id", "report", "image_path"``, images in ``images/``.
"""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

from common.datasets.files import check_image, inside

logger = logging.getLogger(__name__)
SPLITS = {"train": "train", "validation": "val", "test": "test"}
FORMS = (("uid", "finding"), ("id", "report"))  # keys of the study's name and of its text
ENCODINGS = ("utf-8-sig", "gb18030")


def read_studies(root: str, split: str, *, views: int = 2) -> list[dict]:
    """Return a dictionary for each study of ``split``: ``study, report, images, label``.

    ``images`` are the first ``views`` paths, fewer where the study has fewer; ``label`` is the cluster, or None.
    Studies without text are left out and counted in the log.

    Raises:
        FileNotFoundError: ``root`` or an image is missing.
        ValueError: not one annotation file, a damaged image, a path that leaves ``root``, or an empty split.
    """
    if not Path(root).is_dir():
        raise FileNotFoundError(f"dataset_dir: no folder {root!r}; pass an existing one")
    file = annotation_file(Path(root))
    entries = load_annotation(file)[SPLITS[split]]
    folder = _image_folder(Path(root))
    studies = [_study(entry, folder, file, views) for entry in entries]
    written = [study for study in studies if study["report"]]
    if len(written) < len(studies):
        logger.warning(
            "%s: %d of %d studies have no report and are left out", split, len(studies) - len(written), len(studies)
        )
    if not written:
        raise ValueError(f"dataset_dir: {str(file)!r} has no study with a report in split {SPLITS[split]!r}")
    return written


def annotation_file(root: Path) -> Path:
    """The one JSON file of ``root`` with the splits.

    Raises:
        ValueError: there is none, or more than one.
    """
    found = [file for file in sorted(root.glob("*.json")) if _has_splits(file)]
    if len(found) != 1:
        names = [file.name for file in found]
        raise ValueError(
            f"dataset_dir: {str(root)!r} must hold one JSON file with lists train, val, test of studies; found {names}"
        )
    return found[0]


def _has_splits(file: Path) -> bool:
    try:
        content = json.loads(_decode(file))
    except ValueError:
        return False
    return isinstance(content, dict) and set(SPLITS.values()) <= content.keys()


def load_annotation(file: Path) -> dict[str, list[dict]]:
    """Content of an annotation file in UTF-8, with or without byte-order mark, or in GBK.

    Raises:
        ValueError: neither encoding fits, or no JSON.
    """
    try:
        return json.loads(_decode(file))
    except json.JSONDecodeError as error:
        raise ValueError(f"annotation: {str(file)!r} is no JSON ({error}); export it again") from error


def _decode(file: Path) -> str:
    raw = file.read_bytes()
    for encoding in ENCODINGS:
        try:
            return raw.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise ValueError(f"annotation: {str(file)!r} is neither UTF-8 nor GBK; save it as UTF-8")


def save_annotation(file: Path, content: dict[str, list[dict]]) -> None:
    """Write an annotation file, whole or not at all, in UTF-8."""
    part = file.with_suffix(f".{os.getpid()}.part")
    part.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-8")
    part.replace(file)


def keys_of(entry: dict) -> tuple[str, str]:
    """Keys of an entry's name and text.

    Raises:
        ValueError: the entry has neither form.
    """
    for name, text in FORMS:
        if name in entry and text in entry:
            return name, text
    raise ValueError(f"annotation: an entry with keys {sorted(entry)} has none of the forms {FORMS}")


def _image_folder(root: Path) -> Path:
    folders = [root / "images", *sorted(root.glob("*_report"))]
    return next((folder for folder in folders if folder.is_dir()), root)


def _study(entry: dict, folder: Path, file: Path, views: int) -> dict:
    name, text = keys_of(entry)
    names = entry.get("image_path") or []
    if not names:
        raise ValueError(f"annotation: study {entry[name]!r} of {str(file)!r} has no image; remove its entry")
    images = [inside(folder, image) for image in names[:views]]
    for image in images:
        check_image(image)
    label = entry.get("labels")
    return {
        "study": str(entry[name]),
        "report": str(entry[text] or "").strip(),
        "images": images,
        "label": None if label is None else int(label),
    }
