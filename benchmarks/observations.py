"""How the labeller of the 14 observations agrees with the labels of another tool, and how fast it is.

``python -m benchmarks.observations --radlabels FOLDER [--out runs/differences.csv] [--seed 0]``

FOLDER is the unpacked package radlabels 0.2.0 (MIT license). It carries 1,000 reports with labels for 49 findings that
RadGraph and a dictionary of radiologists' phrases gave: silver, nobody read them. Rules and phrases were written by
looking at the reports alone whose text has an even MD5; the figures to quote are those of the odd ones.

Silver takes the status of a finding from any word that it is tied to: of "opacity which may reflect atelectasis" it has
atelectasis *present*. So the first table of each half counts present and uncertain together, on both sides, as the
score of generated reports does; the second counts present alone.

Held-out half (501 reports): macro F1 of the 14 0.932 and micro 0.945 on present or uncertain, 0.817 and 0.848 on
present alone. Of 50 differences drawn at random and read, ours was right in 44, silver in 2, and 4 were unclear.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import logging
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from common.metrics.assertion import ABSENT, PRESENT, UNCERTAIN
from common.metrics.observations import DEVICES, FIVE, NO_FINDING, NOT_NAMED, OBSERVATIONS, label_report

logger = logging.getLogger(__name__)
STATUS = {"definitely present": PRESENT, "uncertain": UNCERTAIN, "definitely absent": ABSENT}
ORDER = (NOT_NAMED, ABSENT, UNCERTAIN, PRESENT)
FINDINGS = {
    "Enlarged Cardiomediastinum": ("enlarged_cardiomediastinum",),
    "Cardiomegaly": ("cardiomegaly",),
    "Lung Opacity": (
        "lung_opacity",
        "air_space_opacity",
        "ground_glass_opacity",
        "infiltration",
        "interstitial_thickening",
    ),
    "Lung Lesion": ("lung_lesion", "lung_nodule_or_mass"),
    "Edema": ("pulmonary_edema", "pulmonary_congestion_pulmonary_venous_congestion"),
    "Consolidation": ("consolidation",),
    "Pneumonia": ("pneumonia",),
    "Atelectasis": ("atelectasis", "lobar_segmental_collapse", "whole_lung_or_majority_collapse"),
    "Pneumothorax": ("pneumothorax",),
    "Pleural Effusion": ("pleural_effusion",),
    "Pleural Other": ("pleural_other", "pleural_thickening"),
    "Fracture": ("fracture_generic", "acute_rib_fracture", "non_acute_rib_fracture"),
    DEVICES: (
        "central_venous_catheter",
        "endotracheal_tube",
        "enteric_tube",
        "implantable_electronic_device",
        "intercostal_drain",
        "pacemaker_electronic_cardiac_device_or_wires",
        "support_devices_generic",
        "tracheostomy_tube",
    ),
}
OBSERVATION_OF = {finding: name for name, findings in FINDINGS.items() for finding in findings}
SAMPLE = (
    "the heart is mildly enlarged . there is a small left pleural effusion with bibasilar opacities that may reflect "
    "atelectasis . no pneumothorax or focal consolidation is seen . right picc line ends in the svc ."
)
NO_OPACITY = (
    "consolidation",
    "pneumonia",
    "bronchopneumonia",
)  # phrases of air_space_opacity with columns of their own


def silver(matches: Sequence[dict]) -> dict[str, str]:
    """Labels of the 14 observations from the matches of one report; No Finding by CheXpert's rule."""
    labels = dict.fromkeys(OBSERVATIONS, NOT_NAMED)
    for match in matches:
        name = OBSERVATION_OF.get(match["disease"])
        if name and not (match["disease"] == "air_space_opacity" and match["alias"].endswith(NO_OPACITY)):
            labels[name] = max(labels[name], STATUS[match["label"]], key=ORDER.index)
    if not any(status in (PRESENT, UNCERTAIN) for name, status in labels.items() if name != DEVICES):
        labels[NO_FINDING] = PRESENT
    return labels


def scores(ours: np.ndarray, theirs: np.ndarray) -> list[tuple[str, float, float, float, int]]:
    """Precision, recall, F1 and silver positives of each observation, then micro and macro of 14, of 13 without No
    Finding, and of 5. ``ours``, ``theirs``: bool (reports, 14).
    """
    rows = [(name, *_precision_recall_f1(ours[:, i], theirs[:, i])) for i, name in enumerate(OBSERVATIONS)]
    f1 = {name: values[2] for name, *values in rows}
    for names in (OBSERVATIONS, OBSERVATIONS[1:], FIVE):
        columns = [OBSERVATIONS.index(name) for name in names]
        rows.append((f"micro of {len(names)}", *_precision_recall_f1(ours[:, columns], theirs[:, columns])))
        rows.append((f"macro F1 of {len(names)}", np.nan, np.nan, float(np.mean([f1[name] for name in names])), 0))
    return rows


def _precision_recall_f1(ours: np.ndarray, theirs: np.ndarray) -> tuple[float, float, float, int]:
    both = int((ours & theirs).sum())
    precision, recall = both / max(int(ours.sum()), 1), both / max(int(theirs.sum()), 1)
    return precision, recall, 2 * both / max(int(ours.sum() + theirs.sum()), 1), int(theirs.sum())


def read(folder: Path) -> dict[str, tuple[str, dict[str, str]]]:
    """Report and silver labels of each study of the package in ``folder``.

    Raises:
        FileNotFoundError: ``folder`` does not hold radlabels' samples.
    """
    samples = folder / "radlabels" / "samples"
    if not (samples / "synthetic_matches.json").is_file():
        raise FileNotFoundError(
            f"{samples}/synthetic_matches.json: give the folder of the unpacked package radlabels 0.2.0"
        )
    matches = json.loads((samples / "synthetic_matches.json").read_text(encoding="utf-8"))
    texts = {file.stem: file.read_text(encoding="utf-8") for file in sorted(samples.glob("synthetic_reports/*.txt"))}
    return {name: (text, silver(matches[name]["matches"])) for name, text in texts.items()}


def held_out(text: str) -> bool:
    """Whether nobody looked at this report while rules were written."""
    return int(hashlib.md5(text.encode(), usedforsecurity=False).hexdigest(), 16) % 2 == 1


def write_differences(path: Path, studies: dict[str, tuple[str, dict[str, str]]], labels: dict[str, dict]) -> int:
    """CSV of every observation that one side has as present or uncertain and the other has not; their number."""
    rows = [
        (
            name,
            "odd" if held_out(text) else "even",
            observation,
            labels[name][observation],
            status,
            " ".join(text.split()),
        )
        for name, (text, theirs) in studies.items()
        for observation, status in theirs.items()
        if (status in (PRESENT, UNCERTAIN)) != (labels[name][observation] in (PRESENT, UNCERTAIN))
    ]
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([("study", "md5", "observation", "ours", "silver", "report"), *rows])
    return len(rows)


def speed(words: int = 60, count: int = 2000) -> float:
    """Reports of ``words`` words a second, on one thread, all different."""
    words_of = SAMPLE.split()
    reports = [" ".join([*(words_of * 3)[i % 35 : i % 35 + words - 1], str(i)]) for i in range(count)]
    start = time.perf_counter()
    for report in reports:
        label_report(report)
    return count / (time.perf_counter() - start)


def table(rows: Sequence[tuple[str, float, float, float, int]]) -> str:
    lines = [f"{'observation':28} {'precision':>9} {'recall':>7} {'F1':>6} {'silver':>7}"]
    return "\n".join(lines + [f"{name:28} {p:9.3f} {r:7.3f} {f:6.3f} {n:7d}" for name, p, r, f, n in rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--radlabels", type=Path, required=True, help="folder of the unpacked package")
    parser.add_argument("--out", type=Path, default=Path("runs/differences.csv"), help="file for the differences")
    args = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    studies = read(args.radlabels)
    labels = {name: label_report(text) for name, (text, _) in studies.items()}
    for half, odd in (("even MD5 (rules were written on these)", False), ("odd MD5 (held out)", True)):
        names = [name for name, (text, _) in studies.items() if held_out(text) is odd]
        for title, counted in (("present or uncertain", (PRESENT, UNCERTAIN)), ("present alone", (PRESENT,))):
            sides = [[labels[name] for name in names], [studies[name][1] for name in names]]
            ours, theirs = (np.array([[s in counted for s in row.values()] for row in side]) for side in sides)
            logger.info("\n%s, %d reports, %s\n%s", half, len(names), title, table(scores(ours, theirs)))
    logger.info("\n%d differences: %s", write_differences(args.out, studies, labels), args.out)
    logger.info("%.0f reports of 60 words a second, one thread", speed())


if __name__ == "__main__":
    main()
