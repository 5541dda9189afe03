"""``make demo``: all five models on drawn example images, with the weights that come along; in under a minute.

Ultrasound images and chest X-rays are drawn with their truth from a seed that no training has seen. Each model
answers; results and one page for each go to ``runs/demo/``. What is drawn looks like no patient: it shows what the
models read and write, not what they can do (the cards quote figures on real images).
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from common import predict
from common.cli.atomic import discard, folder_beside, replace_folder, require_own
from common.datasets.layouts import read_dataset
from common.datasets.malignancy import malignancy
from common.datasets.studies import read_studies
from common.synthetic.chest import ChestOptions, write_chests
from common.synthetic.studies import StudyOptions, write_studies
from common.synthetic.thyroid import Options, write_synthetic

logger = logging.getLogger(__name__)
ROOT = Path(__file__).resolve().parents[1]
SEED = 77  # of no training


def draw(folder: Path) -> dict[str, dict[str, Any]]:
    """Draw an example of each kind into ``folder``; return the case of each model, with its truth."""
    write_synthetic(str(folder / "thyroid"), Options(reports=8, size=192, seed=SEED))
    write_studies(str(folder / "studies"), StudyOptions(studies=12, size=192, seed=SEED))
    write_chests(str(folder / "chests"), ChestOptions(studies=12, size=192, seed=SEED))
    thyroid = read_dataset(str(folder / "thyroid"), "train")[0]
    studies = {name: read_studies(str(folder / name), "train", views=2)[0] for name in ("studies", "chests")}
    return {"akessfa": thyroid, "clip_tnseg": thyroid, "hfcn": thyroid, "sgf": studies["studies"],
            "d2rnet": studies["chests"]}  # fmt: skip


def ask(name: str, case: Mapping[str, Any]) -> tuple[predict.Result, str]:
    """The model's result for its case, and what the drawing's truth says of it."""
    model = predict.load(name)
    if name == "hfcn":
        result = model(case["image"], mask=case["label"])
        return (
            result,
            f"drawn as {('benign', 'malignant', 'unknown')[2 if (m := malignancy(dict(case))) is None else m]}",
        )
    if "images" in case:
        result = model(str(Path(case["images"][0]).parent) if len(case["images"]) > 1 else case["images"][0])
        return result, f"its reference: {case['report']}"
    result = model(case["image"], **({"report": case["report"]} if name == "akessfa" else {}))
    truth = np.asarray(Image.open(case["label"])) > 0
    dice = 2 * (truth & result.mask).sum() / max(truth.sum() + result.mask.sum(), 1)
    return result, f"Dice {dice:.2f} against the outline that was drawn"
