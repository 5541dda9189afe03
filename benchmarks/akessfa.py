"""Ablations of AKE-SSFA on one data set: train each variant, evaluate it on the test split, print one table.

``python -m benchmarks.akessfa --out runs/ddti --dataset_dir FOLDER --seeds 0 -- --image_size 160 --epochs 60``
Without --dataset_dir each seed draws its own synthetic data. --pretrained OUT_OF_AN_EARLIER_RUN fine-tunes each variant
from the same variant and seed there (configs/finetune.json). What follows ``--`` goes to every training and evaluation.
Intervals are 95 % percentile bootstraps over cases (patients), 2,000 resamples.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

from benchmarks.ablations import by_patient, data_of, folder_of, paired_gain, parse, patients, run
from common.metrics.intervals import mean_interval

logger = logging.getLogger(__name__)
TRAINED = {
    "image only": ["ablations/image_only.json"],
    "full report": ["ablations/full_report.json"],
    "full report + AKE": [],
    "AKE without attention mass": ["ablations/no_attention_mass.json"],
    "AKE on sentences only": ["ablations/sentences_only.json"],
    "full report without alignment": ["ablations/full_report.json", "ablations/no_alignment.json"],
}
REPORTS = ("own", "wrong", "empty")
IMAGE_ONLY = ("empty",)  # its text modules are untrained: a report would be noise


def kinds_of(name: str) -> tuple[str, ...]:
    """The kinds of reports that a variant is tested with."""
    return IMAGE_ONLY if name == "image only" else REPORTS


def measure(name: str, seed: int, folder: Path, pretrained: Path | None, overrides: list[str]) -> None:
    """Train one variant with one seed, unless its weights are there, and evaluate it with each kind of report."""
    common = ["--ckpt_dir", str(folder), "--seed", str(seed), *overrides]
    configs = ["train.json", *TRAINED[name]]
    if pretrained is not None:
        configs.insert(1, "finetune.json")
        common += ["--pretrained", str(pretrained / folder.name)]
    if not (folder / "done").is_file():
        run("akessfa", configs, *common)
        (folder / "done").touch()
    for reports in kinds_of(name):
        output = folder / f"test_{reports}"
        if not (output / "metrics.json").is_file():
            run("akessfa", [*configs, "evaluate.json"], *common, "--reports", reports, "--output_dir", str(output))


def differences(out: Path, names: list[str], seeds: list[int], patient_of: dict[int, dict[str, str]]) -> str:
    """Dice with the own report minus that of the network trained on images alone, paired by image."""
    rows = []
    for name in names:
        for seed in seeds:
            tested = [folder_of(out, name, seed) / "test_own", folder_of(out, "image only", seed) / "test_empty"]
            if name == "image only" or not all((folder / "metrics.json").is_file() for folder in tested):
                continue
            own, alone = (by_patient(folder / "per_case.csv", "dice", patient_of[seed]) for folder in tested)
            rows.append(f"{name} | {seed} | own report minus image only | {paired_gain(own, alone)}")
    return "\n".join(rows)


def table(out: Path, names: list[str], seeds: list[int], patient_of: dict[int, dict[str, str]]) -> str:
    """One row a variant, seed and kind of report: Dice with its interval, IoU, HD95, keyword measures."""
    rows = [
        "variant | seed | report | Dice [95 %] | IoU | HD95 px"
        " | hit (G / mass / leave-one-out) | AUC-S | AUC-C | AUC-W | same"
    ]
    for name in names:
        for seed in seeds:
            for reports in kinds_of(name):
                folder = folder_of(out, name, seed) / f"test_{reports}"
                metrics = json.loads((folder / "metrics.json").read_text())
                mean, low, high = mean_interval(by_patient(folder / "per_case.csv", "dice", patient_of[seed]).values())
                methods = ("generator", "attention_mass", "leave_one_out")
                keywords = [
                    " / ".join(f"{metrics[f'{method}_{key}']:.2f}" for method in methods)
                    if f"generator_{key}" in metrics
                    else "-"
                    for key in ("hit", "auc_sentence", "auc_content", "auc_word", "same")
                ]
                iou, hd95 = metrics["iou"], metrics["hd95"]
                cells = [
                    name,
                    str(seed),
                    reports,
                    f"{mean:.3f} [{low:.3f}, {high:.3f}]",
                    f"{iou:.3f}",
                    f"{hd95:.1f}",
                    *keywords,
                ]
                rows.append(" | ".join(cells))
    return "\n".join(rows)


def main() -> None:
    parser, own, extra = parse(str(__doc__), TRAINED)
    parser.add_argument("--pretrained", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.set_defaults(variants=list(TRAINED)[:3])
    arguments = parser.parse_args(own)
    patient_of = {}
    for seed in arguments.seeds:
        data = data_of(arguments.out, arguments.dataset_dir, seed)
        for name in arguments.variants:
            folder = folder_of(arguments.out, name, seed)
            measure(name, seed, folder, arguments.pretrained, ["--dataset_dir", data, *extra])
        patient_of[seed] = patients(data)
    for summary in (table, differences):
        logger.info("%s", summary(arguments.out, arguments.variants, arguments.seeds, patient_of))


if __name__ == "__main__":
    main()
