"""Pictures of every kind of page for the documentation, as wide as a desktop and as a phone shows them.

``python -m benchmarks.screenshots --data FOLDER [--out runs/screenshots]`` writes ``docs/pages/NAME.jpg`` and
``NAME_phone.jpg`` with headless Chromium. FOLDER holds ``ddti`` and ``ddti_crops``, of which the pages show numbers
alone; every picture on a page is drawn. What ``--out`` holds is not made again.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.ablations import run

logger = logging.getLogger(__name__)
ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "docs" / "pages"
WIDE, PHONE = (1280, 1500), (390, 1300)  # pixels of the window
SHOWN = 860  # pixels of a wide picture's width in the documentation
DEMOS = ("akessfa", "clip_tnseg", "hfcn", "sgf", "d2rnet")
EVALUATIONS: dict[str, tuple[str, list[str], dict[str, str]]] = {  # bundle, configs, options; "{data}" is --data
    "segmentation": ("akessfa", ["train.json", "evaluate.json"], {"dataset_dir": "{data}/ddti", "test_fold": "0"}),
    "classification": ("hfcn", ["train.json", "evaluate.json"], {"dataset_dir": "{data}/ddti_crops", "test_fold": "0"}),
    "reports": ("d2rnet", ["train.json", "evaluate.json"], {}),
    "detection": ("d2rnet", ["train_detector.json", "evaluate_detector.json"], {}),
    "topics": ("sgf", ["distill.json"], {"sizes": "[8, 12]", "dims": "[2, 5]"}),
}


def make_pages(data: Path, out: Path) -> dict[str, Path]:
    """The pages by their names: of the demo, and of an evaluation of each kind."""
    if not (out / "demo").is_dir():
        subprocess.run([sys.executable, "-m", "benchmarks.demo", "--out", str(out / "demo")], check=True, cwd=ROOT)
    pages = {name: out / "demo" / name / "index.html" for name in DEMOS}
    for name, (bundle, configs, options) in EVALUATIONS.items():
        pages[name] = out / name / "index.html"
        if not pages[name].is_file():
            given = {"output_dir": out / name, "synthetic_dir": out / f"drawn_{bundle}", **options}
            run(bundle, configs, *(f"--{id}={str(value).format(data=data)}" for id, value in given.items()))
    return pages


def shoot(page: Path, target: Path, size: tuple[int, int], *, width: int) -> None:
    """Write the upper part of ``page``, in a window of ``size``, as a JPEG of ``width`` pixels to ``target``."""
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "page.png"
        command = ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars"]
        command += [f"--window-size={size[0]},{size[1]}", f"--screenshot={picture}", page.resolve().as_uri()]
        subprocess.run(command, check=True, capture_output=True)
        shown = without_rest(Image.open(picture).convert("RGB"))
        shown = shown.resize((width, round(shown.height * width / shown.width)), Image.Resampling.LANCZOS)
        shown.save(target, quality=72, optimize=True)


def without_rest(picture: Image.Image) -> Image.Image:
    """``picture`` up to where only the page's background follows."""
    pixels = np.asarray(picture)
    used = np.flatnonzero((pixels != pixels[-1, 0]).any(axis=(1, 2)))
    return picture.crop((0, 0, picture.width, min(picture.height, int(used[-1]) + 24)))


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with ddti and ddti_crops")
    parser.add_argument("--out", type=Path, default=Path("runs/screenshots"), help="folder for the pages (%(default)s)")
    arguments = parser.parse_args()
    if shutil.which("chromium") is None:
        sys.exit("chromium is not installed, which takes the pictures")
    TARGET.mkdir(exist_ok=True)
    for name, page in make_pages(arguments.data, arguments.out.resolve()).items():
        shoot(page, TARGET / f"{name}.jpg", WIDE, width=SHOWN)
        shoot(page, TARGET / f"{name}_phone.jpg", PHONE, width=PHONE[0])
        logger.info("%s", TARGET / f"{name}.jpg")


if __name__ == "__main__":
    main()
