"""``python -m tests.fuzz --minutes 10 --seed 0``: files of every kind, damaged at random, through every reader.

A reader reads them, or refuses them in one line of ours; anything else is told with its seed and ends in exit code 1.
"""

from __future__ import annotations

import argparse
import io
import json
import logging
import random
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import nibabel
import numpy as np
from PIL import Image

from common.cli.errors import is_ours, line_for
from common.datasets.boxes import LABELS, read_boxes
from common.datasets.layouts import list_each, read_dataset
from common.datasets.studies import read_studies
from common.engine.failures import FAILURES
from common.images.files import open_image, to_grey
from common.images.masks import read_mask
from common.text.tokenizer import ReportTokenizer
from tests.dicom_files import dicom_file

GREY = (np.indices((48, 64)).sum(0) * 2).astype(np.uint8)
PICTURE = Image.fromarray(GREY)


def pictures(folder: Path) -> dict[str, bytes]:
    """Good files of every kind of image."""
    files = {}
    for name, kind, options in (
        ("a.png", "PNG", {}), ("a.jpg", "JPEG", {}), ("a.tif", "TIFF", {}), ("a.bmp", "BMP", {}),
        ("z.tif", "TIFF", {"compression": "tiff_lzw"}), ("p.jpg", "JPEG", {"progressive": True}),
    ):  # fmt: skip
        stream = io.BytesIO()
        PICTURE.save(stream, kind, **options)
        files[name] = stream.getvalue()
    files["a.dcm"] = dicom_file(folder / "a.dcm", GREY).read_bytes()
    nibabel.save(nibabel.Nifti1Image(GREY.T[..., None], np.eye(4)), folder / "a.nii.gz")
    files["a.nii.gz"] = (folder / "a.nii.gz").read_bytes()
    return files


def damaged(content: bytes, rng: random.Random) -> bytes:
    """``content`` with bytes flipped, a part cut out, repeated or swapped with another."""
    data = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 4))):
        start, stop = sorted(rng.randrange(len(data) + 1) for _ in range(2))
        kind = rng.choice(("flip", "flip", "flip", "cut", "end", "repeat", "swap", "fill"))
        if kind == "flip":
            for _ in range(rng.choice((1, 1, 2, 8))):
                data[rng.randrange(len(data))] = rng.randrange(256)
        elif kind == "cut":
            del data[start : min(stop, start + 64)]
        elif kind == "end":
            del data[stop:]
        elif kind == "repeat":
            data[start:start] = data[start : min(stop, start + 64)]
        elif kind == "fill":
            data[start : min(stop, start + 16)] = bytes(16)
        else:
            data[start:stop] = bytes(reversed(data[start:stop]))
        if not data:
            break
    return bytes(data)


def sets(root: Path) -> dict[str, tuple[bytes, Callable[[Path], object]]]:
    """The table of each kind of data set under ``root``, and what reads it."""
    PICTURE.save(root / "1_1.jpg")
    for name in ("images", "masks", "train"):
        (root / name).mkdir()
        PICTURE.save(root / name / "a.png")
        PICTURE.save(root / name / "b.png")
    rows = "".join(f"images/{n}.png,masks/{n}.png,R{n},a round nodule,train\n" for n in "ab")
    entry = {
        "id": 1,
        "report": "the heart is normal",
        "image_path": ["a.png"],
        "boxes": [[1, 2, 3, 4]],
        "box_labels": ["x"],
    }
    coco = {"images": [{"id": 1, "file_name": "a.png"}], "categories": [{"id": 1, "name": "ILD"}],
            "annotations": [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}]}  # fmt: skip
    reports = [{"report_id": "R", "text": "a nodule", "images": ["a.png"]}]
    vindr = "image_id,rad_id,class_name,x_min,y_min,x_max,y_max\na,R1,ILD,1,2,30,40\nb,R1,ILD,1,2,30,40\n"
    tokenizer = root / "tokenizer.json"
    ReportTokenizer.of_words(["a", "round", "nodule"]).save(tokenizer)
    return {
        "cases.csv": (f"image,mask,report_id,report,split\n{rows}".encode(), lambda f: read_dataset(str(f), "train")),
        "annotation.json": (json.dumps({"train": [entry], "val": [entry], "test": [entry]}).encode(),
                            lambda f: read_studies(str(f), "train")),
        "coco_train.json": (json.dumps(coco).encode(), lambda f: read_boxes(str(f), "train", classes=LABELS)),
        "train.csv": (vindr.encode(), lambda f: read_boxes(str(f), "train", classes=LABELS)),
        "reports.json": (json.dumps(reports).encode(), lambda f: read_dataset(str(f), "train")),
        "1.xml": (b"<case><number>2</number><tirads>4a</tirads><mark><image>1</image><svg>"
                  b'[{"points": [{"x": 1, "y": 2}, {"x": 9, "y": 2}, {"x": 9, "y": 9}]}]</svg></mark></case>',
                  lambda f: read_dataset(str(f), "train")),
        "report_tokenizer.json": (tokenizer.read_bytes(), lambda f: ReportTokenizer.load(f / "report_tokenizer.json")),
    }  # fmt: skip


def outcome(read: Callable[[], object]) -> str:
    """ "read", "refused", or what was raised instead."""
    try:
        read()
        return "read"
    except Exception as error:
        line = line_for(error)
        if line is not None and "\n" not in line:
            return "refused"
        frames = list(traceback.extract_tb(error.__traceback__))
        ours = [frame for frame in frames if is_ours(frame.filename)] or frames
        return f"{type(error).__name__} below {Path(ours[-1].filename).name}:{ours[-1].lineno}: {str(error)[:80]!r}"


def one(rng: random.Random, files: dict, tables: dict, root: Path, folder: Path) -> tuple[str, str]:
    """Damage one file and read it; its kind and the outcome."""
    if rng.random() < 0.6:
        name = rng.choice(sorted(files))
        path = folder / name
        path.write_bytes(damaged(files[name], rng))
        reader = rng.choice(
            (lambda: to_grey(open_image(str(path))), lambda: read_mask(str(path)), lambda: list_each(str(path)))
        )
        return name, outcome(reader)
    name = rng.choice(sorted(tables))
    content, read = tables[name]
    (root / name).write_bytes(damaged(content, rng))
    if name == "reports.json":
        (root / "splits.json").write_text('{"train": ["R"], "validation": [], "test": []}')
    try:
        return name, outcome(lambda: read(root))
    finally:
        (root / name).unlink()
        (root / "splits.json").unlink(missing_ok=True)
        FAILURES.take()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=0.2)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    counts: Counter[tuple[str, str]] = Counter()
    wrong: dict[str, str] = {}
    until = time.monotonic() + 60 * options.minutes
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        folder, root = Path(first), Path(second)
        files, tables = pictures(folder), sets(root)
        seed = options.seed
        while time.monotonic() < until:
            name, result = one(random.Random(seed), files, tables, root, folder)
            kind = result if result in ("read", "refused") else "wrong"
            counts[name, kind] += 1
            if kind == "wrong":
                wrong.setdefault(f"{name}: {result.partition(': ')[0]}", f"seed {seed}, {result.partition(': ')[2]}")
            seed += 1
    for name in sorted({name for name, _ in counts}):
        sys.stdout.write(
            f"{name}: " + ", ".join(f"{kind} {counts[name, kind]}" for kind in ("read", "refused", "wrong")) + "\n"
        )
    sys.stdout.write(f"{seed - options.seed} files, seeds {options.seed} to {seed - 1}\n")
    for where, example in wrong.items():
        sys.stdout.write(f"{where} ({example})\n")
    raise SystemExit(1 if wrong else 0)


if __name__ == "__main__":
    main()
