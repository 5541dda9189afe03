"""Studies with several images and one report, in both published forms of one JSON file beside its images.

MIMIC-CXR's own folders (:mod:`common.datasets.mimic`) and tables (:mod:`common.datasets.table`) are read, too.
SGF's ultrasound reports: ``{"train": [{"uid", "finding", "image_path", "labels", "split"}], "val", "test"}``, images in
a folder ``*_report/``. R2Gen's annotation: ``"id", "report", "image_path"``, images in ``images/``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path

from common.cli.reading import visible
from common.datasets.annotation import (
    SPLITS,
    annotation_file,
    entry_named,
    find_annotation,
    image_folder,
    image_names,
    is_annotation,
    keys_of,
    report_of,
    tell_of_copy,
)
from common.datasets.layouts import list_images
from common.datasets.mimic import is_mimic, read_mimic
from common.datasets.packed import packed
from common.datasets.splits import fixed_sample, inside, tell_of_leaks
from common.datasets.table import NAME as TABLE
from common.datasets.table import is_table, read_study_table
from common.engine.failures import FAILURES, line_of
from common.images.files import WITH_DICOM, check_images, image_files, open_image, to_grey

logger = logging.getLogger(__name__)
NO_CLUSTER = -1  # label of a study that none is learned from


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
    tell_of_copy(file)
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


def _study(entry: dict, folder: Path, file: Path, views: int) -> dict:
    name, _ = keys_of(entry)
    label = entry.get("labels")
    if label is not None and (isinstance(label, bool) or not isinstance(label, int) or label < NO_CLUSTER):
        raise ValueError(
            f"annotation: labels of {entry_named(entry, file)} is {label!r}, no whole number from {NO_CLUSTER} (no "
            "cluster) on; correct the entry"
        )
    return {
        "study": str(entry[name]),
        **({"case": str(entry["case"])} if "case" in entry else {}),
        "report": report_of(entry, file),
        "images": [inside(folder, image) for image in image_names(entry, file)[:views]],
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
