"""One way into every thyroid segmentation data set that the readers know: the layout is recognised by its files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from common.cli.reading import header_of, visible
from common.datasets.ddti import read_ddti, read_ddti_xml
from common.datasets.phrasecut import phrasecut_folder, read_phrasecut
from common.datasets.ratn import read_ratn
from common.datasets.splits import SPLITS, split_by_fold
from common.datasets.table import EXPECTED, is_table, read_case_table
from common.datasets.tn3k import read_tg3k, read_tn3k
from common.engine.failures import FAILURES, line_of
from common.images.files import (
    WITH_DICOM,
    check_image,
    check_images,
    check_pairs,
    frames_of,
    image_files,
    open_image,
    to_grey,
)

TABLES = (".csv", ".tsv", ".xlsx", ".xls", ".ods")


class Layout(NamedTuple):
    """A published layout: what it looks like, how to tell, how to read, and whether its reports are templates."""

    description: str
    matches: Callable[[Path], bool]
    read: Callable[[str, str], list[dict]]
    templated: bool = False
    splits: Sequence[str] = tuple(SPLITS)


def _columns(folder: Path) -> set[str]:
    return header_of(folder / "cases.csv")


LAYOUTS = (
    Layout("RATN: images/, masks/, reports.json, splits.json", lambda f: (f / "reports.json").is_file(), read_ratn),
    Layout(f"a table: cases.csv with {EXPECTED}", lambda f: is_table(f, masks=True), read_case_table),
    Layout(
        "DDTI masks: image/, mask/, cases.csv with image,case",
        lambda f: (f / "mask").is_dir() and {"image", "case"} <= _columns(f),
        read_ddti,
        templated=True,
    ),
    Layout("DDTI XML: {n}.xml, {n}_{k}.jpg", lambda f: bool(visible(f, "*.xml")), read_ddti_xml, templated=True),
    Layout(
        "TN3K: trainval-image/, trainval-mask/, test-image/, ...", lambda f: (f / "trainval-image").is_dir(), read_tn3k
    ),
    Layout(
        "TG3K: thyroid-image/, thyroid-mask/, tg3k-trainval.json",
        lambda f: (f / "thyroid-image").is_dir(),
        read_tg3k,
        splits=("train", "validation"),
    ),
    Layout(
        "PhraseCut: image_data_split.json, refer_{train,val,test}.json, images/",
        lambda f: phrasecut_folder(f) is not None,
        read_phrasecut,
    ),
)


def read_dataset(root: str, split: str, *, test_fold: int | None = None, check: bool = True) -> list[dict]:
    """Return a dictionary for each image of ``split`` ("train", "validation", "test"): ``image, label, report, case``.

    The layout is recognised in ``root`` or in its only subfolder that fits one.

    Args:
        test_fold: None keeps the data set's own splits; k in 0..4 pools them and divides anew by the hash of the case's
            name (:func:`common.datasets.splits.split_by_fold`).
        check: look at the files (:func:`common.images.files.check_images`).

    Raises:
        FileNotFoundError: ``root``, an image or a mask is missing.
        ValueError: no known layout, an empty split, a damaged file, another mask size, another fold.
    """
    layout, cases = list_dataset(root, split) if test_fold is None else _divided(root, split, test_fold)
    if not cases:
        raise ValueError(f"dataset_dir: {root!r} ({layout.description}) has no image in split {split!r}")
    if not check:
        return cases
    check_images([case["image"] for case in cases if isinstance(case["label"], list)], root=root)
    check_pairs([case for case in cases if isinstance(case["label"], str)], root=root)
    return cases


def truth_of(case: dict) -> dict[str, str]:
    """``truth``, the file of the case's mask, for pictures; nothing where its outlines are no file."""
    return {"truth": case["label"]} if isinstance(case["label"], str) else {}


def list_dataset(root: str, split: str) -> tuple[Layout, list[dict]]:
    """The layout of ``root``, and the cases of ``split`` as :func:`read_dataset` has them, no image of which is opened.

    Raises:
        FileNotFoundError: no folder ``root``.
        ValueError: no known layout, or a table that cannot be read.
    """
    if not Path(root).is_dir():
        raise FileNotFoundError(f"dataset_dir: no folder {root!r}; pass an existing one")
    folder, layout = _recognise(Path(root))
    return layout, layout.read(str(folder), split)


def _divided(root: str, split: str, test_fold: int) -> tuple[Layout, list[dict]]:
    """As :func:`list_dataset`, divided by ``test_fold``."""
    layout, _ = list_dataset(root, "train")
    cases = [case for name in layout.splits for case in list_dataset(root, name)[1]]
    return layout, [case for case in cases if split_by_fold(case["case"], test_fold) == split]


def _recognise(root: Path) -> tuple[Path, Layout]:
    for folder in (root, *(path for path in visible(root, "*") if path.is_dir())):
        for layout in LAYOUTS:
            if layout.matches(folder):
                return folder, layout
    known = "; ".join(layout.description for layout in LAYOUTS)
    raise ValueError(f"dataset_dir: {str(root)!r} has none of the known layouts{_nearest(root)}: {known}")


def _nearest(root: Path) -> str:
    """What is there in place of a data set, where that can be said."""
    if columns := sorted(_columns(root)):
        return f" (the columns of its cases.csv: {', '.join(columns)})"
    if not visible(root, "*"):
        return " (it is empty)"
    if (root / "cases.csv").is_file():
        return " (its cases.csv is empty)"
    tables = [path.name for path in visible(root, "*") if path.suffix.lower() in TABLES]
    return f" (a table is read from cases.csv, not from {tables[0]!r})" if tables else ""


def list_images(image: str) -> list[str]:
    """Return the file ``image``, or the image files of the folder ``image``, each checked; of DICOM clips each frame.

    Raises:
        FileNotFoundError: neither a file nor a folder, or a folder without images.
        ValueError: the file, or a file of the folder, is damaged.
    """
    return _frames(list_files(image), check_image)


def list_each(image: str) -> list[str]:
    """:func:`list_images`, each a case of its own: a damaged file of a folder is left out and named as the run ends.

    Raises:
        FileNotFoundError, ValueError: as :func:`list_images`, if ``image`` is a file or no file of it can be read.
    """
    FAILURES.take()  # of a listing before that no run finished
    files = list_files(image)
    if len(files) == 1:
        return list_images(image)
    sound = [file for file in files if is_sound(file)]
    if not sound:
        raise ValueError(next(iter(FAILURES.take().values())))
    return _frames(sound, lambda _: None)


def is_sound(file: Path) -> bool:
    """Whether every frame of ``file`` can be read; what cannot is named as the run ends."""
    try:
        for frame in frames_of(file):
            check_image(frame)
            to_grey(open_image(frame))
    except Exception as error:  # whatever Pillow and pydicom make of damaged bytes, the other files are done
        told = line_of(error)
        FAILURES.add(str(file), told if told.startswith("image: ") else f"image: {str(file)!r} is damaged ({told})")
        return False
    return True


def list_files(image: str) -> list[Path]:
    """The file ``image``, or the image files of the folder ``image``, unread.

    Raises:
        FileNotFoundError: neither a file nor a folder, or a folder without images.
    """
    path = Path(image)
    if not path.exists():
        raise FileNotFoundError(f"image: no file or folder {image!r}; pass --image FILE_OR_FOLDER")
    files = image_files(path, WITH_DICOM) if path.is_dir() else [path]
    if not files:
        raise FileNotFoundError(f"image: no image file in {image!r}; pass a folder with PNG, JPEG or DICOM files")
    return files


def _frames(files: list[Path], check: Callable[[str], object]) -> list[str]:
    for file in files:
        check(str(file))
    return [frame for file in files for frame in frames_of(file)]
