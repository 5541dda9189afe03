"""A tiny drawn folder in each layout that the readers know: ``python -m common.synthetic.examples NEW``.

NEW gets a folder a layout, of twelve patients each; copy the form of the one that is nearest to your data. Every image
is drawn, and no number that is measured on so few means anything.
"""

from __future__ import annotations

import argparse
import json
import logging
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from common.cli.atomic import whole_folder, write_rows
from common.datasets.annotation import keys_of, load_annotation
from common.datasets.box_files import named, read_splits, write_vindr
from common.datasets.boxes import LABELS
from common.datasets.phrasecut import trace, write_phrasecut
from common.datasets.ratn import read_ratn
from common.datasets.table import write_table
from common.images.masks import read_mask
from common.synthetic.chest import ChestOptions, write_chests
from common.synthetic.studies import StudyOptions, write_studies
from common.synthetic.thyroid import ThyroidOptions, write_synthetic

logger = logging.getLogger(__name__)
PATIENTS, SIZE, SEED = 12, 96, 33
MIMIC_SPLITS = {"train": "train", "val": "validate", "test": "test"}
Cases = Mapping[str, Sequence[dict]]


def write_examples(root: str) -> None:
    """Write every layout into a folder of its own under ``root``, which is new.

    Raises:
        FileExistsError: ``root`` is there already.
    """
    if Path(root).exists():
        raise FileExistsError(f"new: {root!r} is there already; pass another name, or remove it")
    with whole_folder(root) as folder:
        write_synthetic(str(folder / "ratn"), ThyroidOptions(reports=PATIENTS, size=SIZE, seed=SEED))
        write_studies(str(folder / "sgf"), StudyOptions(studies=PATIENTS, size=SIZE, seed=SEED))
        write_chests(str(folder / "r2gen"), ChestOptions(studies=PATIENTS, size=SIZE, seed=SEED))
        for file in folder.glob("*/options.json"):
            file.unlink()
        cases = {
            split: _first_images(read_ratn(str(folder / "ratn"), split)) for split in ("train", "validation", "test")
        }
        for name, write in THYROID.items():
            write(folder / name, cases)
        write_table_of_studies(folder / "table-studies", folder / "sgf" / "thyroid.json", folder / "sgf/Thyroid_report")
        write_table_of_studies(folder / "table-boxes", folder / "r2gen" / "annotation.json", folder / "r2gen/images")
        write_detector_sets(folder)
        write_mimic(folder / "mimic", folder / "r2gen")


def _first_images(cases: Sequence[dict]) -> list[dict]:
    """One case of each patient."""
    return list({case["case"]: case for case in reversed(cases)}.values())[::-1]


def _flat(cases: Cases) -> list[tuple[str, dict]]:
    return [(split, case) for split, group in cases.items() for case in group]


def _copy(case: Mapping[str, Any], image: Path, mask: Path) -> None:
    """A case's image and mask under these names, in the format that their endings say."""
    for source, target in ((case["image"], image), (case["label"], mask)):
        target.parent.mkdir(parents=True, exist_ok=True)
        Image.open(source).save(target)


def write_case_table(folder: Path, cases: Cases) -> None:
    """``cases.csv`` with image, mask, report, label."""
    rows = []
    for split, case in _flat(cases):
        name = f"{case['case']}.png"
        _copy(case, folder / "images" / name, folder / "masks" / name)
        label = "malignant" if case["malignant"] == "1" else "benign"
        files = {"image": f"images/{name}", "mask": f"masks/{name}"}
        rows.append({**files, "report": case["report"], "label": label, "patient_id": case["case"], "split": split})
    write_table(folder / "cases.csv", rows)


def write_ddti_masks(folder: Path, cases: Cases) -> None:
    """DDTI with masks as files."""
    rows = []
    for number, (_, case) in enumerate(_flat(cases), start=1):
        _copy(case, folder / "image" / f"{number}.png", folder / "mask" / f"{number}.png")
        tirads = "4b" if case["malignant"] == "1" else "2"
        rows.append({"image": f"{number}.png", "case": str(number), "tirads": tirads, "malignant": case["malignant"]})
    write_table(folder / "cases.csv", rows)


def write_ddti_xml(folder: Path, cases: Cases) -> None:
    """DDTI as it was published: outlines as polygons in XML."""
    folder.mkdir()
    for number, (_, case) in enumerate(_flat(cases), start=1):
        Image.open(case["image"]).save(folder / f"{number}_1.jpg", quality=95)
        outlines = [[{"x": x, "y": y} for x, y in polygon] for polygon in trace(read_mask(case["label"]))]
        svg = json.dumps([{"points": points} for points in outlines])
        tirads = "4b" if case["malignant"] == "1" else "2"
        (folder / f"{number}.xml").write_text(
            f"<case><number>{number}</number><tirads>{tirads}</tirads>"
            f"<mark><image>1</image><svg>{svg}</svg></mark></case>\n",
            encoding="utf-8",
        )


def _write_numbered(folder: Path, cases: Sequence[dict], prefix: str) -> None:
    for number, case in enumerate(cases):
        _copy(case, folder / f"{prefix}image" / f"{number:04d}.jpg", folder / f"{prefix}mask" / f"{number:04d}.jpg")


def _write_indices(file: Path, cases: Cases) -> None:
    """Places of the training and validation images in the list of files."""
    count, total = len(cases["train"]), len(cases["train"]) + len(cases["validation"])
    file.write_text(json.dumps({"train": [*range(count)], "val": [*range(count, total)]}), encoding="utf-8")


def write_tn3k(folder: Path, cases: Cases) -> None:
    """TN3K, of the five folds the first."""
    _write_numbered(folder, [*cases["train"], *cases["validation"]], "trainval-")
    _write_numbered(folder, cases["test"], "test-")
    _write_indices(folder / "tn3k-trainval-fold0.json", cases)


def write_tg3k(folder: Path, cases: Cases) -> None:
    """TG3K, which has no test split."""
    _write_numbered(folder, [*cases["train"], *cases["validation"]], "thyroid-")
    _write_indices(folder / "tg3k-trainval.json", cases)


THYROID: dict[str, Callable[[Path, Cases], None]] = {
    "table": write_case_table,
    "ddti-masks": write_ddti_masks,
    "ddti-xml": write_ddti_xml,
    "tn3k": write_tn3k,
    "tg3k": write_tg3k,
    "phrasecut": lambda folder, cases: write_phrasecut(str(folder), dict(cases)),
}


def write_table_of_studies(folder: Path, annotation: Path, images: Path) -> None:
    """``cases.csv`` with the images of a study in a row, its report and, where the annotation has them, its boxes."""
    shutil.copytree(images, folder / "images")
    rows: list[dict[str, str]] = []
    for split, entries in load_annotation(annotation).items():
        for entry in entries:
            name, text = keys_of(entry)
            files = [f"images/{file}" for file in entry["image_path"]]
            row = {"image": files[0]} if len(files) == 1 else {f"image_{n}": file for n, file in enumerate(files, 1)}
            row |= {"report": entry[text], "patient_id": entry[name]}
            row |= {"split": "validation" if split == "val" else split}
            rows.append(row | {key: json.dumps(entry[key]) for key in ("boxes", "box_labels") if key in entry})
    write_table(folder / "cases.csv", rows)


def write_detector_sets(folder: Path) -> None:
    """The chest X-rays of ``r2gen`` with their boxes, as COCO and as VinDr-CXR; the annotation keeps its boxes."""
    shutil.copytree(folder / "r2gen" / "images", folder / "coco" / "images")
    for file in (folder / "r2gen").glob("coco_*.json"):
        file.rename(folder / "coco" / file.name)
    (folder / "vindr").mkdir()
    write_vindr(named(read_splits(str(folder / "coco"), LABELS), folder / "coco"), folder / "vindr", LABELS)


def write_mimic(folder: Path, studies: Path) -> None:
    """MIMIC-CXR's folders and tables, of one view a study."""
    rows = [("dicom_id", "study_id", "subject_id", "split")]
    number = 0
    for split, entries in load_annotation(studies / "annotation.json").items():
        for entry in entries:
            number += 1
            patient, study, image = f"{10000030 + number}", f"{50414260 + number}", f"{number:08x}"
            place = Path(f"p{patient[:2]}") / f"p{patient}" / f"s{study}"
            (folder / "files" / place).mkdir(parents=True)
            Image.open(studies / "images" / entry["image_path"][0]).save(folder / "files" / place / f"{image}.jpg")
            text = folder / "mimic-cxr-reports" / f"{place}.txt"
            text.parent.mkdir(parents=True)
            text.write_text(f" FINDINGS:\n {entry['report']}\n", encoding="utf-8")
            rows.append((image, study, patient, MIMIC_SPLITS[split]))
    write_rows(folder / "mimic-cxr-2.0.0-split.csv", rows)


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the folders and name them."""
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(
        prog="python -m common.synthetic.examples",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("new", metavar="NEW", help="the folder to write, which is not there yet")
    new = parser.parse_args(arguments).new
    try:
        write_examples(new)
    except FileExistsError as error:
        raise SystemExit(str(error)) from error
    logger.info("%s: %s", new, ", ".join(sorted(path.name for path in Path(new).iterdir())))


if __name__ == "__main__":
    main()
