"""``make train-demo``: train AKE-SSFA on synthetic data, evaluate, infer on one unseen image with its report.

The training starts from the weights that come with the bundle, as one on a hospital's own data would. Everything runs
through the bundle's own configs, made small by overrides. Results go to
``runs/train-demo/akessfa/``: ``metrics.json``, ``predictions.json``, ``overlay.png``, ``index.html``.
"""

from __future__ import annotations

import argparse
import json
import logging
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

from common.cli.atomic import discard, folder_beside, replace_folder, require_own
from common.datasets.layouts import read_dataset
from common.results import blocks, drawing
from common.text.encoding import encode_report
from common.text.tokenizer import ReportTokenizer

logger = logging.getLogger(__name__)
ROOT = Path(__file__).resolve().parents[1]
MODEL = {"image_size": 64}
DATA = {"synthetic#reports": 200, "synthetic#size": 96}
TRAINING = {
    "epochs": 3,
    "learning_rate": 0.001,
    "encoder_learning_rate": 0.0002,
    "train#preprocessing#affine": 0.0,
    "phases#full_report": 1,
    "phases#dropout": 0,
    "phases#settle": 0,
    "phases#gate": -1,
    "train#trainer#iteration_update#erasure#sentences": 3,
}
CONFIGS = ROOT / "bundles" / "akessfa" / "configs"
SHOWN = (
    "dice", "dice_without_report", "dice_without_keywords", "iou", "generator_hit", "generator_auc_content",
)  # fmt: skip


def run(configs: list[str], **overrides: object) -> None:
    """Run configs of the bundle in a process of its own, as a user would."""
    files = str([str(CONFIGS / name) for name in configs])
    arguments = [f"--{name}={value}" for name, value in overrides.items()]
    subprocess.run(
        [sys.executable, "-W", "ignore", "-m", "monai.bundle", "run", "--config_file", files, *arguments], check=True
    )


def draw_overlay(folder: Path, case: dict, tokenizer: ReportTokenizer) -> Image.Image:
    """The unseen image with prediction and truth, the pixels of the top keyword, and the shaded report below."""
    (prediction,) = json.loads((folder / "predictions.json").read_text())
    image, truth, mask = (
        np.asarray(Image.open(path)) for path in (case["image"], case["label"], folder / prediction["mask"])
    )
    words = {(entry["start"], entry["end"]): entry["probability"] for entry in prediction["words"]}
    spans = encode_report(tokenizer, case["report"], 128).spans
    pictures = drawing.side_by_side(
        [
            drawing.overlay(image, mask > 0, truth > 0),
            Image.open(folder / prediction["attention"]).convert("RGB"),
        ]
    )
    report = drawing.report_panel(case["report"], spans, [words[span] for span in spans], width=pictures.width)
    return drawing.stack([pictures, report])


def main() -> None:
    start = time.perf_counter()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "train-demo" / "akessfa")
    out = parser.parse_args().out.resolve()
    try:
        require_own(out, id="out")
    except ValueError as error:
        raise SystemExit(str(error)) from error
    folder = folder_beside(out)
    try:
        metrics = demonstrate(folder, synthetic_dir=out.parent / "synthetic")
        replace_folder(folder, out, id="out")
    finally:
        discard(folder)
    logger.info("")
    for name in SHOWN:
        logger.info("%-24s %.3f", name, metrics[name])
    logger.info("\n%.0f s on the synthetic test split. Look at %s", time.perf_counter() - start, out / "index.html")


def demonstrate(folder: Path, *, synthetic_dir: Path) -> dict[str, float]:
    """Train, evaluate and infer into ``folder``; return the metrics of the test split."""
    paths = {"ckpt_dir": folder / "models", "output_dir": folder, "synthetic_dir": synthetic_dir}
    run(["train.json", "finetune.json"], **paths, **MODEL, **DATA, **TRAINING)
    run(["train.json", "evaluate.json"], **paths, **MODEL, **DATA)
    case = read_dataset(str(paths["synthetic_dir"]), "test")[0]
    run(["inference.json"], **paths, **MODEL, image=case["image"], report=case["report"])
    picture = draw_overlay(folder, case, ReportTokenizer.load(folder / "models" / "report_tokenizer.json"))
    picture.save(folder / "overlay.png")
    metrics = json.loads((folder / "metrics.json").read_text())
    write_page(folder, picture, metrics)
    return metrics


def write_page(folder: Path, picture: Image.Image, metrics: dict[str, float]) -> None:
    """The page: the unseen case first, then the metrics."""
    caption = "Prediction and truth; pixels that attend to the top keyword; words shaded by keyword probability."
    sections = [
        blocks.Section("An unseen image with its report", [blocks.figure(picture, caption)]),
        blocks.Section("Synthetic test split", [blocks.table(list(metrics.items()))]),
    ]
    whole = blocks.render("AKE-SSFA on synthetic thyroid ultrasound", sections)
    (folder / "index.html").write_text(whole, encoding="utf-8")


if __name__ == "__main__":
    main()
