"""RATN: thyroid images with masks, many to one report. The data were never released; this folder form is ours.

``root/{images,masks}/NAME.png``, ``reports.json`` = ``[{"report_id", "text", "images": [NAME, ...]}]`` and
``splits.json`` = ``{"train": [report_id, ...], "validation": [...], "test": [...]}``; a flat
table is :mod:`common.datasets.table`'s. Synthetic data add ``sentences`` with the truth about each sentence,
``[{"text", "images", "attributes"}]``, and ``nodules`` with ``image`` and ``malignant``.
"""

from __future__ import annotations

from pathlib import Path

from common.cli.reading import cell_of, read_json
from common.datasets.splits import SPLITS, inside, tell_of_leaks


def read_ratn(root: str, split: str) -> list[dict]:
    """Return a dictionary for each image of ``split``: ``image, label, report, case`` and, if known, ``sentences``.

    Raises:
        FileNotFoundError: ``splits.json``, an image or a mask is missing.
        ValueError: a report without images, a report id of ``splits.json`` without report, an unknown ``split``.
    """
    folder = Path(root)
    reports = {str(entry["report_id"]): entry for entry in _entries(folder / "reports.json")}
    splits = _load(folder / "splits.json")
    if not isinstance(splits, dict) or not all(isinstance(ids, list) for ids in splits.values()):
        raise ValueError(
            f"dataset_dir: {str(folder / 'splits.json')!r} has no lists of report ids by split; correct it"
        )
    if split not in splits:
        raise ValueError(f"split: {split!r} is none of {sorted(splits)} in {folder / 'splits.json'}")
    _tell_of_leaks(splits, reports, folder)
    cases = []
    for report_id in map(str, splits[split]):
        if report_id not in reports:
            raise ValueError(f"{folder / 'splits.json'}: report id {report_id!r} of {split!r} is not in reports.json")
        if not reports[report_id]["images"]:
            raise ValueError(
                f"{folder / 'reports.json'}: report {report_id!r} has no image; remove it or name its images"
            )
        cases += [_case(folder, name, reports[report_id]) for name in reports[report_id]["images"]]
    return cases


def _tell_of_leaks(splits: dict[str, list], reports: dict[str, dict], folder: Path) -> None:
    """Say so where a report, or an image, stands in several of the three splits."""
    splits = {split: ids for split, ids in splits.items() if split in SPLITS}
    tell_of_leaks(splits, what="reports", where=str(folder / "splits.json"))
    images = {
        split: [name for id in ids for name in reports.get(str(id), {}).get("images", ())]
        for split, ids in splits.items()
    }
    tell_of_leaks(images, what="images", where=str(folder / "reports.json"))


def _case(folder: Path, name: str, report: dict) -> dict:
    case: dict = {
        "image": inside(folder, f"images/{name}"),
        "label": inside(folder, f"masks/{name}"),
        "report": cell_of(report["text"]),
        "case": str(report["report_id"]),
    }
    malignant = [nodule["malignant"] for nodule in report.get("nodules", []) if nodule["image"] == name]
    if malignant:
        case["malignant"] = str(max(malignant))
    if "sentences" in report:
        # a tuple, since MONAI's tools take every list in a case for a list of file names
        case["sentences"] = tuple(
            {**sentence, "about_image": name in sentence["images"]} for sentence in report["sentences"]
        )
    return case


def _entries(path: Path) -> list[dict]:
    """Reports, each with its id, its text and its images.

    Raises:
        ValueError: an entry lacks one of them.
    """
    content = _load(path)
    for entry in content if isinstance(content, list) else [content]:
        known = entry if isinstance(entry, dict) else {}
        images = known.get("images")
        if (
            not {"report_id", "text"} <= known.keys()
            or not isinstance(images, list)
            or not all(isinstance(name, str) for name in images)
        ):
            raise ValueError(
                f"dataset_dir: {str(path)!r}: {str(entry)[:80]!r} has no report_id, text and list of images"
            )
    return content  # type: ignore[return-value]


def _load(path: Path) -> list | dict:
    if not path.is_file():
        raise FileNotFoundError(f"dataset_dir: no file {str(path)!r}; a RATN folder has reports.json and splits.json")
    return read_json(path, what="dataset_dir")
