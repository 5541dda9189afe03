"""Ablations of CLIP-TNseg on one data set: train each variant, evaluate it on the test split, print one table.

``python -m benchmarks.clip_tnseg --out runs/clip --clip_dir FOLDER --cached runs/taps -- --image_size 64 --epochs 5``
Without --dataset_dir each seed draws its own synthetic data. With --clip_dir the small CLIP in it
(configs/pretrain_clip.json) serves all variants, and its retrieval on the test split stands below the table; visual
prompts need it. What follows ``--`` goes to every training and
evaluation. Intervals are 95 % percentile bootstraps over cases (patients), 2,000 resamples.
"""

from __future__ import annotations

import json
import logging
from pathlib import Path

import torch
from clip_tnseg.data import pair_transforms, read_prompts
from clip_tnseg.pretraining.retrieval import retrieval
from clip_tnseg.pretraining.steps import embeddings
from monai.data import DataLoader, Dataset
from transformers import AutoTokenizer, CLIPModel

from benchmarks.ablations import by_patient, data_of, folder_of, paired_gain, parse, patients, run
from common.datasets.phrases import PLAIN
from common.metrics.intervals import mean_interval

logger = logging.getLogger(__name__)
VARIANTS = {
    "CLIP-TNseg": [],
    "coarse only": ["ablations/coarse_only.json"],
    "fine only": ["ablations/fine_only.json"],
    "no text": ["ablations/no_text.json"],
    "fixed text": ["ablations/fixed_text.json"],
    "visual prompts": ["ablations/visual_prompts.json"],
    "Dice alone": ["ablations/dice_only.json"],
}
COLUMNS = ("iou", "dice_two_class", "iou_two_class", "hd95")


def phrases_of(name: str) -> tuple[str, ...]:
    """What a variant is tested with: each image's own phrase, and where it learned phrases the plain one, too."""
    return ("own", "plain") if name in ("CLIP-TNseg", "coarse only", "visual prompts", "Dice alone") else ("own",)


def measure(name: str, folder: Path, cached: Path | None, clip_dir: str | None, overrides: list[str]) -> None:
    """Train one variant, unless its weights are there, and evaluate it."""
    clip = [] if clip_dir is None else ["small_clip.json"]
    places = ["--ckpt_dir", str(folder), *overrides, *([] if clip_dir is None else ["--clip_dir", clip_dir])]
    configs, features = (
        ["train.json", *clip, *VARIANTS[name]],
        [] if cached is None else ["--features_dir", str(cached)],
    )
    if not (folder / "done").is_file():
        run("clip_tnseg", [*configs, *(["cache_features.json"] if features else [])], *places, *features)
        (folder / "done").touch()
    for phrases in phrases_of(name):
        output = folder / f"test_{phrases}"
        plain = ["--fixed_phrase", PLAIN] if phrases == "plain" else []
        if not (output / "metrics.json").is_file():
            run(
                "clip_tnseg",
                ["train.json", *VARIANTS[name], "evaluate.json", *clip],
                *places,
                "--output_dir",
                str(output),
                *plain,
            )


def table(out: Path, names: list[str], patient_of: dict[int, dict[str, str]]) -> str:
    """A row for each variant, seed and kind of phrase; the last column compares with the fine branch, by image."""
    rows = [
        "variant | seed | phrase | Dice [95 %] | IoU | Dice, two classes | IoU, two classes | HD95 px | less fine only"
    ]
    for name in names:
        for seed, patient in patient_of.items():
            for phrases in phrases_of(name):
                folder, fine = (folder_of(out, n, seed) for n in (name, "fine only"))
                metrics = json.loads((folder / f"test_{phrases}" / "metrics.json").read_text())
                dice = by_patient(folder / f"test_{phrases}" / "per_case.csv", "dice", patient)
                mean, low, high = mean_interval(dice.values())
                cells = [f"{mean:.3f} [{low:.3f}, {high:.3f}]", *(f"{metrics[column]:.3f}" for column in COLUMNS)]
                reference = fine / "test_own" / "per_case.csv"
                gain = paired_gain(dice, by_patient(reference, "dice", patient)) if reference.is_file() else "-"
                rows.append(" | ".join([name, str(seed), phrases, *cells, gain]))
    return "\n".join(rows)


@torch.no_grad()
def retrieve(clip_dir: str, data: str, *, size: int, max_length: int) -> str:
    """Zero-shot retrieval of the test images' phrases, from plain and from highlighted images."""
    clip, tokenizer = CLIPModel.from_pretrained(clip_dir).eval(), AutoTokenizer.from_pretrained(clip_dir)
    cases, lines = read_prompts(root=data, split="test"), []
    for kind, share in (("plain", 0.0), ("highlighted", 1.0)):
        transform = pair_transforms(
            tokenizer=tokenizer, size=size, max_length=max_length, highlighted=share, augment=False
        )
        batches = list(DataLoader(Dataset(cases, transform=transform), batch_size=64))
        pairs = [(*embeddings(clip, batch, torch.device("cpu")), batch["input_ids"]) for batch in batches]
        metrics = retrieval(*(torch.cat(parts) for parts in zip(*pairs, strict=True)))
        lines.append(" | ".join([f"{kind}, {len(cases)} images", *(f"{k} {v:.3f}" for k, v in metrics.items())]))
    return "\n".join(lines)


def main() -> None:
    parser, own, extra = parse(str(__doc__), VARIANTS)
    parser.add_argument("--clip_dir", help="a small CLIP; without it the default's frozen encoders")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--reports", type=int, default=1200, help="of the synthetic data")
    parser.add_argument("--cached", type=Path, help="folder for CLIP's taps: train on whole images from them")
    arguments = parser.parse_args(own)
    patient_of, retrieved = {}, []
    names = [name for name in arguments.variants if arguments.clip_dir or name != "visual prompts"]
    for seed in arguments.seeds:
        data = data_of(arguments.out, arguments.dataset_dir, seed, reports=arguments.reports)
        fixed = ["--dataset_dir", data, "--seed", str(seed)]
        for name in names:
            measure(name, folder_of(arguments.out, name, seed), arguments.cached, arguments.clip_dir, [*fixed, *extra])
        patient_of[seed] = patients(data)
        if arguments.clip_dir is None:
            continue
        config = json.loads((Path(arguments.clip_dir) / "config.json").read_text())
        size, length = config["vision_config"]["image_size"], config["text_config"]["max_position_embeddings"]
        retrieved.append(retrieve(arguments.clip_dir, data, size=size, max_length=length))
    logger.info("%s", table(arguments.out, names, patient_of))
    logger.info("%s", "\n".join(retrieved))


if __name__ == "__main__":
    main()
