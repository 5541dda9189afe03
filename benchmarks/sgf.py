"""Ablations of SGF on one data set, beside two baselines without a generator: train, evaluate, one table.

``python -m benchmarks.sgf --out runs/sgf --language zh --seeds 0 1 2 -- --image_size 64``
Without --dataset_dir each seed draws its own synthetic studies. What follows ``--`` goes to every training and
evaluation. Baselines: the most frequent training report, and the report of the training study whose views are most
alike (cosine of 32x32 thumbnails, mean removed). The last columns: ROUGE-L less that of the transformer alone, ROUGE-L
and CIDEr-D less those of the nearest neighbour, paired by study, 95 % percentile bootstrap over studies.
"""

from __future__ import annotations

import csv
import json
import logging
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.ablations import folder_of, paired_gain, parse, run
from common.datasets.studies import read_studies
from common.datasets.synthetic_studies import studies_or_synthetic
from common.entity_metrics import entity_metrics, read_entities
from common.text_metrics import cider_d_each, rouge_l, text_metrics, tokens_of

logger = logging.getLogger(__name__)
VARIANTS = {
    "transformer only": ["ablations/transformer_only.json"],
    "with clusters": ["ablations/with_clusters.json"],
    "with comparison": ["ablations/with_comparison.json"],
    "full": [],
}
BASELINES = ("most frequent report", "nearest neighbour")
COLUMNS = ("bleu_1", "bleu_2", "bleu_3", "bleu_4", "meteor", "rouge_l", "cider_d", "entity_accuracy", "entity_f1",
           "cluster_accuracy", "distinct_reports")  # fmt: skip
GAINS = (("transformer only", "rouge_l"), ("nearest neighbour", "rouge_l"), ("nearest neighbour", "cider_d"))


def thumbnail(images: list[str], views: int) -> np.ndarray:
    """Unit vector of a study's views, one after the other; missing ones are black."""
    parts = [np.zeros(32 * 32)] * (views - len(images))
    for name in images:
        with Image.open(name) as image:
            parts.append(np.asarray(image.convert("L").resize((32, 32)), dtype=np.float64).ravel())
    vector = np.concatenate(parts)
    vector -= vector.mean()
    return vector / max(np.linalg.norm(vector), 1e-12)


def baseline(name: str, data: str, folder: Path, *, views: int, organ: str) -> None:
    """Write ``metrics.json`` and ``per_case.csv`` of one baseline on the test split."""
    training, test = (read_studies(data, split, views=views) for split in ("train", "test"))
    if name == "nearest neighbour":
        known = np.stack([thumbnail(study["images"], views) for study in training])
        nearest = [int((known @ thumbnail(study["images"], views)).argmax()) for study in test]
        written = [training[index]["report"] for index in nearest]
    else:
        written = [Counter(study["report"] for study in training).most_common(1)[0][0]] * len(test)
    wanted = [study["report"] for study in test]
    metrics = text_metrics(written, wanted) | entity_metrics(written, wanted, read_entities(organ))
    metrics["distinct_reports"] = len(set(written)) / len(written)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "metrics.json").write_text(json.dumps(metrics, indent=2))
    sides = [tokens_of(text) for text in written], [tokens_of(text) for text in wanted]
    scores = [rouge_l([w], [r]) for w, r in zip(*sides, strict=True)]
    with open(folder / "per_case.csv", "w", newline="") as file:
        rows = zip((study["study"] for study in test), scores, cider_d_each(*sides), strict=True)
        csv.writer(file).writerows([("case", "rouge_l", "cider_d"), *rows])


def measure(name: str, folder: Path, overrides: list[str], evaluation: list[str]) -> None:
    """Train one variant, unless its metrics are there, and evaluate it on the test split."""
    if (folder / "metrics.json").is_file():
        return
    configs, places = ["train.json", *VARIANTS[name]], ["--ckpt_dir", str(folder), "--output_dir", str(folder)]
    run("sgf", configs, *places, *overrides)
    run("sgf", [*configs, "evaluate.json"], *places, *overrides, *evaluation)


def of_seeds(out: Path, name: str, seeds: list[int], column: str, *, same_data: bool) -> dict[str, list[float]]:
    """``column`` of each study, a value for each seed that has it; seeds of drawn data have studies of their own."""
    groups: dict[str, list[float]] = {}
    for seed in seeds:
        with open(folder_of(out, name, seed) / "per_case.csv", newline="") as file:
            for row in csv.DictReader(file):
                key = row["case"] if same_data else f"{seed} {row['case']}"
                groups.setdefault(key, []).append(float(row[column]))
    return groups


def table(out: Path, names: list[str], seeds: list[int], *, same_data: bool) -> str:
    """Means over seeds (standard deviation in brackets); the gains of all seeds' studies together."""
    rows = [" | ".join(["variant", "seeds", *COLUMNS, *(f"{column} less {name}" for name, column in GAINS)])]
    for name in names:
        metrics = [json.loads((folder_of(out, name, seed) / "metrics.json").read_text()) for seed in seeds]
        cells = []
        for column in COLUMNS:
            values = [m[column] for m in metrics if column in m]
            spread = f" ({np.std(values, ddof=1):.3f})" if len(values) > 1 else ""
            cells.append(f"{np.mean(values):.3f}{spread}" if values else "-")
        for reference, column in GAINS:
            pair = [of_seeds(out, n, seeds, column, same_data=same_data) for n in (name, reference) if n in names]
            cells.append(paired_gain(*pair) if len(pair) == 2 and name != reference else "-")
        rows.append(" | ".join([name, str(len(seeds)), *cells]))
    return "\n".join(rows)


def main() -> None:
    parser, own, extra = parse(str(__doc__), VARIANTS)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--language", default="en", help="of the synthetic reports: en or zh")
    parser.add_argument("--studies", type=int, default=800, help="of the synthetic data")
    parser.add_argument("--size", type=int, default=96, help="of the synthetic images in pixels")
    parser.add_argument("--views", type=int, default=2, help="images of a study at most")
    parser.add_argument("--organ", default="thyroid", help="whose entities are counted")
    arguments = parser.parse_args(own)
    for seed in arguments.seeds:
        options = {name: getattr(arguments, name) for name in ("studies", "size", "language")} | {"seed": seed}
        drawn = str(arguments.out / f"synthetic_{seed}")
        data = studies_or_synthetic(dataset_dir=arguments.dataset_dir, synthetic_dir=drawn, options=options)
        fixed = ["--dataset_dir", data, "--seed", str(seed), "--views", str(arguments.views), *extra]
        for name in arguments.variants:
            measure(name, folder_of(arguments.out, name, seed), fixed, ["--organ", arguments.organ])
        for name in BASELINES:
            baseline(name, data, folder_of(arguments.out, name, seed), views=arguments.views, organ=arguments.organ)
    names, same_data = [*arguments.variants, *BASELINES], arguments.dataset_dir is not None
    logger.info("%s", table(arguments.out, names, arguments.seeds, same_data=same_data))


if __name__ == "__main__":
    main()
