"""The annotation of studies: one JSON file, ``{"train": [...], "val": [...], "test": [...]}``, found, read, written.

An entry has a name, a text and images, in one of :data:`FORMS`; what of them is malformed is refused in one line.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from common.cli.atomic import write_json
from common.cli.reading import cell_of, read_json, visible

logger = logging.getLogger(__name__)
SPLITS = {"train": "train", "validation": "val", "test": "test"}
WITH_BOXES = "_with_boxes"  # ends the name of an annotation that pseudo_label.json wrote beside the user's
FORMS = (("uid", "finding"), ("id", "report"))  # keys of the study's name and of its text


def is_annotation(file: Path) -> bool:
    """Whether ``file`` is JSON with the three lists of studies."""
    try:
        load_annotation(file)
    except ValueError:
        return False
    return True


def annotation_file(root: Path, name: str | None = None) -> Path:
    """The file of :func:`find_annotation`."""
    return find_annotation(root, name)[0]


def find_annotation(root: Path, name: str | None = None) -> tuple[Path, dict[str, list[dict]]]:
    """The annotation file ``name`` (a path, or a name in ``root``), or the one JSON file of ``root`` with the splits,
    and its content.

    ``NAME_with_boxes.json`` stands in for ``NAME.json`` beside it, of which it is a copy with a detector's boxes.

    Raises:
        FileNotFoundError: there is no file ``name``.
        ValueError: without ``name``, there is none, or more than one.
    """
    if name is not None:
        file = next((path for path in (root / name, Path(name)) if path.is_file()), None)
        if file is None:
            raise FileNotFoundError(f"annotation: no file {name!r}, nor in {str(root)!r}; pass an existing one")
        return file, load_annotation(file)
    contents: dict[Path, dict[str, list[dict]]] = {}
    reasons = []
    for file in visible(root, "*.json"):
        try:
            contents[file] = load_annotation(file)
        except ValueError as error:
            reasons.append(str(error))
    copies = set(map(copied_from, contents))
    results = [file for file in contents if file not in copies]
    if len(results) > 1:
        names = [file.name for file in results]
        raise ValueError(f"dataset_dir: {str(root)!r} holds {names}; pass --annotation with one of them")
    if not results:
        seen = "; ".join(reasons) or "no JSON file"
        raise ValueError(
            f"dataset_dir: {str(root)!r} must hold one JSON file with lists train, val, test of studies, or a table "
            f"cases.csv with image and report: {seen}"
        )
    return results[0], contents[results[0]]


def copied_from(file: Path) -> Path | None:
    """``NAME.json`` of ``NAME_with_boxes.json``; None of another file."""
    return file.with_stem(file.stem.removesuffix(WITH_BOXES)) if file.stem.endswith(WITH_BOXES) else None


def tell_of_copy(file: Path) -> None:
    """Say that ``file``, a copy with boxes, is read, and warn where it is older than what it was copied from."""
    original = copied_from(file)
    if original is None or not original.is_file():
        return
    logger.info("%s: read with boxes, in place of %s", file, original.name)
    if original.stat().st_mtime > file.stat().st_mtime:
        logger.warning(
            "%s is older than %s, whose changes are not read: run pseudo_label.json with --overwrite true, which makes "
            "it anew, or remove it",
            file, original.name,
        )  # fmt: skip


def load_annotation(file: Path) -> dict[str, list[dict]]:
    """Content of an annotation file.

    Raises:
        ValueError: no text, no JSON, or a split is missing or no list of studies.
    """
    content = read_json(file, what="annotation")
    for split in SPLITS.values():
        entries = content.get(split) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise ValueError(f"annotation: {str(file)!r} has no list of studies {split!r}")
    return content


def save_annotation(file: Path, content: dict[str, list[dict]]) -> None:
    """Write an annotation file, whole or not at all, in UTF-8."""
    write_json(file, content)


def keys_of(entry: Mapping) -> tuple[str, str]:
    """Keys of an entry's name and text.

    Raises:
        ValueError: the entry has neither form.
    """
    for name, text in FORMS:
        if name in entry and text in entry:
            return name, text
    raise ValueError(f"annotation: an entry with keys {sorted(entry)} has none of the forms {FORMS}")


def entry_named(entry: Mapping, file: Path | None) -> str:
    """What messages call an entry of ``file``."""
    name = next((entry[key] for key, _ in FORMS if key in entry), None)
    return f"study {name!r}" if file is None else f"study {name!r} of {str(file)!r}"


def report_of(entry: Mapping, file: Path | None = None) -> str:
    """The report of an entry of ``file``; "" where there is none. A number is a text.

    Raises:
        ValueError: the entry has neither form, or what stands there is no text.
    """
    key = keys_of(entry)[1]
    value = entry[key]
    if value is not None and (isinstance(value, bool) or not isinstance(value, str | int | float)):
        raise ValueError(
            f"annotation: {key} of {entry_named(entry, file)} is {value!r:.80}, no text; correct the entry"
        )
    return cell_of(value)


def image_names(entry: Mapping, file: Path | None = None) -> list[str]:
    """Names of the images of an entry of ``file``, one at least.

    Raises:
        ValueError: ``image_path`` is no list of texts, or empty.
    """
    names = entry.get("image_path")
    if names is None or names == []:
        raise ValueError(f"annotation: {entry_named(entry, file)} has no image; remove its entry")
    if not isinstance(names, list):
        raise ValueError(f"annotation: image_path of {entry_named(entry, file)} is {names!r:.80}, no list; make it one")
    if not all(isinstance(name, str) and name for name in names):
        raise ValueError(
            f"annotation: image_path of {entry_named(entry, file)} is {names!r:.80}, no file's names; correct the entry"
        )
    return names


def image_folder(root: Path, entries: Sequence[Mapping]) -> Path:
    """The folder that holds the first study's first image, else the first that there is."""
    usual = (root / "images", root / "files", *sorted(root.glob("*_report")))
    folders = [folder for folder in usual if folder.is_dir()]
    listed = (entry["image_path"] for entry in entries if isinstance(entry.get("image_path"), list))
    first = next((names[0] for names in listed if names), None)
    holding = [folder for folder in folders if isinstance(first, str) and (folder / first).is_file()]
    return next(iter(holding or folders), root)
