"""Studies with several images and one report, in both published forms of one JSON file beside its images.

MIMIC-CXR's own folders (:mod:`common.datasets.mimic`) and tables (:mod:`common.datasets.table`) are read, too.
SGF's ultrasound reports: ``{"train": [{"uid", "finding", "image_path", "labels", "split"}], "val", "test"}``, images in
a folder ``*_report/``. R2Gen's annotation: ``"id", "report", "image_path"``, images in ``images/``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from common.cli.atomic import write_json
from common.cli.reading import cell_of, read_json, visible
from common.datasets.layouts import list_images
from common.datasets.mimic import is_mimic, read_mimic
from common.datasets.packed import packed
from common.datasets.splits import fixed_sample, inside, tell_of_leaks
from common.datasets.table import NAME as TABLE
from common.datasets.table import is_table, read_study_table
from common.engine.failures import FAILURES, line_of
from common.images.files import WITH_DICOM, check_images, image_files, open_image, to_grey

logger = logging.getLogger(__name__)
SPLITS = {"train": "train", "validation": "val", "test": "test"}
WITH_BOXES = "_with_boxes"  # ends the name of an annotation that pseudo_label.json wrote beside the user's
FORMS = (("uid", "finding"), ("id", "report"))  # keys of the study's name and of its text


def read_studies(
    root: str,
    split: str,
    *,
    views: int = 2,
    annotation: str | None = None,
    extras: Sequence[str] = (),
    check: bool = True,
    most: int | None = None,
    pack: bool = True,
) -> Sequence[dict]:
    """Return a dictionary for each study of ``split``: ``study, report, images, label``, and ``extras``.

    ``images`` are the first ``views`` paths, fewer where the study has fewer; ``label`` is the cluster, or None.
    Studies without text are left out and counted in the log.

    Args:
        annotation: the annotation file, where ``root`` holds several: a path, or a name in ``root``.
        extras: more keys of the entries, passed on as they are; None where an entry lacks one.
        check: look at the images (:func:`common.images.files.check_images`); else only at the annotation.
        most: studies that are taken, always the same ones (:func:`common.datasets.splits.fixed_sample`); None: all.
        pack: many are :class:`common.datasets.packed.Packed`; False: a list, of which such are made.

    Raises:
        FileNotFoundError: ``root``, the annotation or an image is missing.
        ValueError: an unknown split, not one annotation file nor a table (:mod:`common.datasets.table`), an entry of no
            known form, a damaged image, a path that leaves ``root``, or an empty split.
    """
    if not Path(root).is_dir():
        raise FileNotFoundError(f"dataset_dir: no folder {root!r}; pass an existing one")
    if split not in SPLITS:
        raise ValueError(f"split: {split!r} is none of {list(SPLITS)}")
    file, folder, entries = _entries(Path(root), split, annotation)
    studies = [_study(entry, folder, file, views) | {key: entry.get(key) for key in extras} for entry in entries]
    written = [study for study in studies if study["report"]]
    if len(written) < len(studies):
        logger.warning(
            "%s: %d of %d studies have no report and are left out", split, len(studies) - len(written), len(studies)
        )
    if not written:
        raise ValueError(f"dataset_dir: {str(file)!r} has no study with a report in split {SPLITS[split]!r}")
    written = fixed_sample(written, most, key="study")
    if check:
        check_images([image for study in written for image in study["images"]], root=root)
    return packed(written) if pack else written


def _entries(root: Path, split: str, annotation: str | None) -> tuple[Path, Path, list[dict]]:
    """The file that tells of the studies, the folder that their images are named from, and the entries of ``split``."""
    if has_table(str(root), annotation):
        return root / TABLE, root, read_study_table(str(root), split)
    if _is_bare_mimic(root, annotation):
        return root, root / "files", read_mimic(root, (SPLITS[split],))[SPLITS[split]]
    file, content = find_annotation(root, annotation)
    _tell_of_leaks(content, file)
    return file, image_folder(root, content[SPLITS[split]]), content[SPLITS[split]]


def form_of(root: str, annotation: str | None) -> str:
    """What tells of the studies of ``root``, in words.

    Raises:
        FileNotFoundError, ValueError: nothing does.
    """
    if has_table(root, annotation):
        return TABLE
    if _is_bare_mimic(Path(root), annotation):
        return "MIMIC-CXR's folders and tables"
    return annotation_file(Path(root), annotation).name


def _is_bare_mimic(root: Path, annotation: str | None) -> bool:
    """Whether ``root`` is MIMIC-CXR as handed out, without an annotation made of it."""
    return annotation is None and is_mimic(root) and not visible(root, "*.json")


def has_table(root: str, annotation: str | None) -> bool:
    """Whether the studies of ``root`` are told by a table, and not by an annotation beside it."""
    return (
        annotation is None
        and is_table(Path(root), masks=False)
        and not any(map(is_annotation, visible(root, "*.json")))
    )


def is_annotation(file: Path) -> bool:
    """Whether ``file`` is JSON with the three lists of studies."""
    try:
        load_annotation(file)
    except ValueError:
        return False
    return True


def _tell_of_leaks(content: dict[str, list[dict]], file: Path) -> None:
    """Say so where an image, or a study's name, stands in several splits, or other lists of studies are not read."""
    others = [key for key, value in content.items() if isinstance(value, list) and key not in SPLITS.values()]
    if others:
        logger.warning("%s: the lists %s are not read; train, val and test are", file, others)
    for what, names_of in (("images", _image_names), ("studies", _study_names)):
        tell_of_leaks({split: names_of(content[split]) for split in SPLITS.values()}, what=what, where=str(file))


def _image_names(entries: Sequence[dict]) -> Iterator[object]:
    return (name for entry in entries if isinstance(entry.get("image_path"), list) for name in entry["image_path"])


def _study_names(entries: Sequence[dict]) -> Iterator[object]:
    return (entry[name] for entry in entries for name in ("uid", "id") if name in entry)


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
    results, reasons = [], []
    content: dict[Path, dict[str, list[dict]]] = {}
    for file in visible(root, "*.json"):
        try:
            content[file] = load_annotation(file)
            results.append(file)
        except ValueError as error:
            reasons.append(str(error))
    copies = {file.with_stem(file.stem.removesuffix(WITH_BOXES)) for file in results if file.stem.endswith(WITH_BOXES)}
    if replaced := copies.intersection(results):
        logger.info("%s: read with boxes, in place of %s", root, ", ".join(file.name for file in replaced))
        results = [file for file in results if file not in replaced]
    if len(results) > 1:
        names = [file.name for file in results]
        raise ValueError(f"dataset_dir: {str(root)!r} holds {names}; pass --annotation with one of them")
    if not results:
        seen = "; ".join(reasons) or "no JSON file"
        raise ValueError(
            f"dataset_dir: {str(root)!r} must hold one JSON file with lists train, val, test of studies, or a table "
            f"cases.csv with image and report: {seen}"
        )
    return results[0], content[results[0]]


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


def keys_of(entry: dict) -> tuple[str, str]:
    """Keys of an entry's name and text.

    Raises:
        ValueError: the entry has neither form.
    """
    for name, text in FORMS:
        if name in entry and text in entry:
            return name, text
    raise ValueError(f"annotation: an entry with keys {sorted(entry)} has none of the forms {FORMS}")


def image_folder(root: Path, entries: Sequence[dict]) -> Path:
    """The folder that holds the first study's first image, else the first that there is."""
    usual = (root / "images", root / "files", *sorted(root.glob("*_report")))
    folders = [folder for folder in usual if folder.is_dir()]
    first = next((entry["image_path"][0] for entry in entries if entry.get("image_path")), None)
    holding = [folder for folder in folders if first is not None and (folder / str(first)).is_file()]
    return next(iter(holding or folders), root)


def _study(entry: dict, folder: Path, file: Path, views: int) -> dict:
    name, text = keys_of(entry)
    names = entry.get("image_path") or []
    if isinstance(names, str):
        raise ValueError(f"annotation: image_path of study {entry[name]!r} of {str(file)!r} is no list; make it one")
    if not names:
        raise ValueError(f"annotation: study {entry[name]!r} of {str(file)!r} has no image; remove its entry")
    images = [inside(folder, image) for image in names[:views]]
    label = entry.get("labels")
    if label is not None and not isinstance(label, int):
        raise ValueError(f"annotation: labels of study {entry[name]!r} of {str(file)!r} is {label!r}, no whole number")
    return {
        "study": str(entry[name]),
        **({"case": str(entry["case"])} if "case" in entry else {}),
        "report": cell_of(entry[text]),
        "images": images,
        "label": label,
    }


def _images_of(path: Path, *, alone: bool) -> list[str]:
    """Images of a study; none, named as the run ends, where one of them is damaged and other studies go on."""
    try:
        images = list_images(str(path))
        for image in images if not alone else ():
            to_grey(open_image(image))
        return images
    except Exception as error:  # whatever Pillow and pydicom make of damaged bytes, the other studies are done
        if alone:
            raise
        FAILURES.add(str(path), f"study {path.name!r}: {line_of(error)}")
        return []


def list_studies(*, image: str | None, data_dir: str | None, views: int, annotation: str | None = None) -> list[dict]:
    """What inference runs over: ``study`` and ``images`` of each study.

    Args:
        image: a file, a folder whose images are the views of one study, or a folder of such folders; None: the test
            split of ``data_dir``. A folder with images of its own is one study, whatever folders it holds.

    Raises:
        FileNotFoundError: no such image.
        ValueError: no study can be read; one of several that cannot is left out and named as the run ends.
    """
    if image is None:
        results = read_studies(str(data_dir), "test", views=views, annotation=annotation)
        return [{**{key: study[key] for key in ("study", "images")}, "reference": study["report"]} for study in results]
    FAILURES.take()  # of a listing before that no run finished
    whole = Path(image)
    folders = [whole]
    if whole.is_dir() and not image_files(whole, WITH_DICOM):
        folders = [path for path in visible(whole, "*") if path.is_dir()] or folders
    names = [path.name if path.is_dir() else path.stem for path in folders]
    studies = [
        {"study": name, "images": images}
        for name, path in zip(names, folders, strict=True)
        if (images := _images_of(path, alone=len(folders) == 1))
    ]
    if not studies:
        raise ValueError(next(iter(FAILURES.take().values())))
    for study in studies:
        if len(study["images"]) > views:
            logger.warning("%s: %d images, the first %d are read", study["study"], len(study["images"]), views)
    return [{**study, "images": study["images"][:views]} for study in studies]
