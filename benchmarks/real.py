"""Train and measure on real images, as the cards quote it: one command for all of it.

``python -m benchmarks.real --data FOLDER --out runs/real`` with the folders ``ddti``, ``ddti_crops``, ``busi``
(image/, mask/, cases.csv with image,case) and ``iu_xray`` in FOLDER. Fold 0 of DDTI by case is never trained on. What
is there is not made again. Intervals are 95 % percentile bootstraps over cases; differences are paired by image.

akessfa: learns to read on synthetic data at 96 pixels, is fine-tuned on DDTI at 160, and is tested with the case's own
templated report, with none and with another case's. Beside it, the image alone. clip_tnseg: likewise, at 160 pixels,
tested with the case's own phrase and with "thyroid nodule". hfcn: five folds of DDTI's crops and of BUSI, and the
published branches alone. Both segmenters on BUSI, five folds, by the image alone: BUSI has no reports. There
both go on from the weights that come along. iu_xray: :mod:`benchmarks.chest_reports`.
"""

from __future__ import annotations

import argparse
import csv
import json
import logging
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from itertools import chain
from math import isfinite
from pathlib import Path
from statistics import mean
from typing import NamedTuple

import numpy as np
from hfcn.calibration import read_calibration

from benchmarks.ablations import by_patient, folder_of, paired_gain, patients, run
from benchmarks.chest_reports import report_chests
from benchmarks.hfcn import interval
from common.datasets.phrases import PLAIN
from common.metrics.classification import calibration_error
from common.metrics.intervals import mean_interval

logger = logging.getLogger(__name__)
READING = {
    "image_size": 96, "synthetic#reports": 1200, "synthetic#size": 96, "epochs": 8, "phases#full_report": 5,
    "phases#dropout": 1, "phases#settle": 0,
}  # fmt: skip
TUNING = {
    "epochs": 40, "batch_size": 8, "phases#full_report": 18, "phases#patience": 18, "phases#dropout": 10,
    "learning_rate": 0.0005, "encoder_learning_rate": 0.0002,
}  # fmt: skip
ALONE = {"epochs": 40, "batch_size": 8}
READING_PHRASES = {"synthetic#reports": 500, "synthetic#size": 160, "epochs": 4}
TUNING_PHRASES = {"epochs": 30, "batch_size": 8, "learning_rate": 0.0005, "encoder_learning_rate": 0.0002}
CROPS = {"all branches": {"epochs": 6}, "published branches": {"epochs": 10, "network_def#mask_weight": 0.0}}
LESIONS: dict[str, tuple[list[str], dict[str, object], dict[str, object]]] = {
    "akessfa": (
        ["train.json", "finetune.json", "ablations/image_only.json"], {"epochs": 25, "batch_size": 8},
        {"reports": "empty", "flips": True},
    ),
    "clip_tnseg": (
        ["train.json", "finetune.json"], {"epochs": 15, "batch_size": 8, "fixed_phrase": "breast lesion"}, {},
    ),
}  # fmt: skip
REPORTS = ("own", "empty", "wrong")
PHRASES: dict[str, dict[str, object]] = {"own phrase": {}, f'"{PLAIN}"': {"fixed_phrase": PLAIN}}


def flags(options: dict[str, object]) -> list[str]:
    """``--name=value`` of each option."""
    return [f"--{name}={value}" for name, value in options.items()]


def train(bundle: str, folder: Path, configs: list[str], options: dict[str, object]) -> None:
    """Train into ``folder``, unless that was done."""
    if not (folder / "done").is_file():
        run(bundle, configs, *flags({"ckpt_dir": folder, **options}))
        (folder / "done").touch()


def evaluate(bundle: str, folder: Path, configs: list[str], output: Path, options: dict[str, object]) -> dict:
    """Metrics of the test split, measured unless they are there."""
    if not (output / "metrics.json").is_file():
        run(bundle, [*configs, "evaluate.json"], *flags({"ckpt_dir": folder, "output_dir": output, **options}))
    return json.loads((output / "metrics.json").read_text(encoding="utf-8"))


def segment(data: Path, out: Path, seed: int) -> str:
    """Rows of AKE-SSFA on DDTI."""
    real: dict[str, object] = {"dataset_dir": data / "ddti", "seed": seed}
    reads, tuned, alone = (folder_of(out, name, seed) for name in ("reads", "tuned", "image alone"))
    train("akessfa", reads, ["train.json"], {**READING, "seed": seed, "synthetic_dir": out / "synthetic"})
    train("akessfa", tuned, ["train.json", "finetune.json"], {**TUNING, **real, "pretrained": reads})
    image_only = ["train.json", "ablations/image_only.json"]
    train("akessfa", alone, image_only, {**ALONE, **real})
    outputs = {f"with {kind} report": (tuned, ["train.json"], kind) for kind in REPORTS}
    outputs["the image alone"] = (alone, image_only, "empty")
    patient_of, rows, dice = patients(str(data / "ddti")), ["akessfa | seed | Dice [95 %] | IoU | HD95 px"], {}
    for name, (folder, configs, kind) in outputs.items():
        output = folder / f"test_{kind}"
        metrics = evaluate("akessfa", folder, configs, output, {**real, "reports": kind})
        dice[name] = by_patient(output / "per_case.csv", "dice", patient_of)
        average, low, high = mean_interval(dice[name].values())
        rows.append(
            f"{name} | {seed} | {average:.3f} [{low:.3f}, {high:.3f}] | {metrics['iou']:.3f} | {metrics['hd95']:.1f}"
        )
    for other in ("with empty report", "with wrong report", "the image alone"):
        rows.append(f"own report less {other} | {seed} | {paired_gain(dice['with own report'], dice[other])}")
    return "\n".join(rows)


def segment_by_phrase(data: Path, out: Path, seed: int) -> str:
    """Rows of CLIP-TNseg on DDTI."""
    real: dict[str, object] = {"dataset_dir": data / "ddti", "seed": seed}
    reads, tuned = (folder_of(out, name, seed) for name in ("reads phrases", "tuned by phrases"))
    train("clip_tnseg", reads, ["train.json"], {**READING_PHRASES, "seed": seed, "synthetic_dir": out / "phrases"})
    train("clip_tnseg", tuned, ["train.json", "finetune.json"], {**TUNING_PHRASES, **real, "pretrained": reads})
    patient_of, rows, dice = patients(str(data / "ddti")), ["clip_tnseg | seed | Dice [95 %] | IoU | HD95 px"], {}
    for name, phrase in PHRASES.items():
        output = tuned / f"test_{len(dice)}"
        metrics = evaluate("clip_tnseg", tuned, ["train.json"], output, {**real, **phrase})
        dice[name] = by_patient(output / "per_case.csv", "dice", patient_of)
        average, low, high = mean_interval(dice[name].values())
        rows.append(
            f"{name} | {seed} | {average:.3f} [{low:.3f}, {high:.3f}] | {metrics['iou']:.3f} | {metrics['hd95']:.1f}"
        )
    own, plain = dice.values()
    return "\n".join([*rows, f"own phrase less the plain one | {seed} | {paired_gain(own, plain)}"])


def over_folds(bundle: str, data: Path, out: Path, variant: str, own: dict[str, object]) -> list[dict]:
    """Metrics of the five networks, each trained without one fold of ``data`` and evaluated on it."""
    results = []
    for fold in range(5):
        folder = folder_of(out, f"{bundle} {data.name} {variant}", fold)
        options = {"dataset_dir": data, "test_fold": fold, "seed": fold}
        train(bundle, folder, ["train.json"], {**options, **own})
        results.append(evaluate(bundle, folder, ["train.json"], folder / "test", options))
    return results


def classify(data: Path, out: Path, name: str) -> str:
    """Rows of HFCN on the data set ``name``, mean and interval over five folds."""
    columns = ("roc_auc", "average_precision", "case_roc_auc")
    rows = [" | ".join([f"hfcn, {name}", *columns])]
    for variant, own in CROPS.items():
        results = over_folds("hfcn", data / name, out, variant, own)
        rows.append(" | ".join([variant, *(interval([metrics[column] for metrics in results]) for column in columns)]))
        together = calibration_over_folds([folder_of(out, f"hfcn {name} {variant}", fold) for fold in range(5)])
        rows += [" | ".join(f"{name} {value:.3f}" for name, value in together.items())] if together else []
    return "\n".join(rows)


def calibration_over_folds(folders: list[Path]) -> dict[str, float]:
    """Calibration errors of all folds' test images together, and what perfect probabilities would show by chance.

    Empty where a fold's training could not be calibrated.
    """
    label, prob, calibrated = (np.zeros(0) for _ in range(3))
    for folder in folders:
        known = read_calibration(str(folder / "model.pt"))
        if known is None:
            return {}
        with open(folder / "test" / "per_case.csv", newline="") as file:
            told = np.array([(float(row["malignancy"]), float(row["prob"])) for row in csv.DictReader(file)])
        label, prob = np.concatenate([label, told[:, 0]]), np.concatenate([prob, told[:, 1]])
        calibrated = np.concatenate([calibrated, known(told[:, 1])])
    draws = np.random.default_rng(0).random((400, len(label))) < calibrated
    return {
        "together_calibration_error": calibration_error(label, prob),
        "together_calibrated_error": calibration_error(label, calibrated),
        "together_by_chance": mean(calibration_error(draw.astype(int), calibrated) for draw in draws),
    }


class Lesions(NamedTuple):
    """What five networks outline on BUSI, each on the fold that it was trained without.

    Attributes:
        dice: of each patient's images with a lesion.
        folds: mean Dice of the images with a lesion, of each fold.
        normal: whether something is outlined on each image without a lesion.
    """

    dice: dict[str, list[float]]
    folds: list[float]
    normal: list[bool]

    def figures(self) -> dict[str, float]:
        """As ``figures.json`` has them."""
        return {"lesion_dice": mean(chain(*self.dice.values())), "normal_outlined": mean(self.normal)}


def lesions_over_folds(data: Path, out: Path, bundle: str) -> Lesions:
    """A segmenter on BUSI, by the image alone."""
    configs, own, read = LESIONS[bundle]
    found = Lesions(defaultdict(list), [], [])
    for fold in range(5):
        folder = folder_of(out, f"{bundle} busi tuned", fold)
        options = {"dataset_dir": data / "busi", "test_fold": fold, "seed": fold, **own}
        train(bundle, folder, configs, options)
        tested = [name for name in configs if name != "finetune.json"]
        evaluate(bundle, folder, tested, folder / "test", {**options, **read})
        with open(folder / "test" / "per_case.csv", newline="") as file:
            cases = list(csv.DictReader(file))
        current = [row for row in cases if isfinite(float(row["dice"] or "nan"))]
        found.normal.extend(float(row["hd95"]) > 0 for row in cases if row not in current)
        for row in current:
            found.dice[row["patient"]].append(float(row["dice"]))
        found.folds.append(mean(float(row["dice"]) for row in current))
    return found


def segment_lesions(data: Path, out: Path, bundle: str) -> str:
    """Rows of a segmenter on BUSI: lesions, and what it outlines on breasts without one."""
    found = lesions_over_folds(data, out, bundle)
    rows = [f"{bundle}, BUSI | Dice of lesions [95 %]"]
    rows += [f"fold {fold} | {dice:.3f}" for fold, dice in enumerate(found.folds)]
    average, low, high = mean_interval(found.dice.values())
    rows.append(f"all | {average:.3f} [{low:.3f}, {high:.3f}]")
    return "\n".join([*rows, f"something outlined | {mean(found.normal):.3f} of {len(found.normal)} normal images"])


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with ddti, ddti_crops, busi, iu_xray")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--only", choices=["akessfa", "clip_tnseg", "hfcn", "busi", "iu_xray"])
    arguments = parser.parse_args()
    data, out, seeds = arguments.data, arguments.out, arguments.seeds
    tables: dict[str, list[Callable[[], str]]] = {
        "akessfa": [partial(segment, data, out, seed) for seed in seeds],
        "clip_tnseg": [partial(segment_by_phrase, data, out, seed) for seed in seeds],
        "hfcn": [partial(classify, data, out, name) for name in ("ddti_crops", "busi")],
        "busi": [partial(segment_lesions, data, out, bundle) for bundle in LESIONS],
        "iu_xray": [partial(report_chests, data, out, seed) for seed in seeds],
    }
    for table in tables[arguments.only] if arguments.only else chain(*tables.values()):
        logger.info("%s\n", table())


if __name__ == "__main__":
    main()
