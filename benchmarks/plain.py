"""MONAI's plain segmenters beside ours, on the same fold, with the same augmentation: is what we ship worth it?

``python -m benchmarks.plain --data FOLDER --out runs/plain [--networks unet nnunet] [--epochs 40]``

FOLDER holds ``ddti``, whose fold 0 by case is tested; fold 1 chooses the epoch, the others train. Random starts, the
image alone, Dice and cross-entropy. ``unet`` is MONAI's UNet of its tutorials, with AdamW; ``nnunet`` has nnU-Net's
defaults as far as MONAI's DynUNet goes: deep supervision, SGD with Nesterov momentum 0.99 and a polynomial decay, but
neither its preprocessing nor its thousand epochs. Beside them the weights of akessfa and clip_tnseg that come along,
with no report and with "thyroid nodule". Intervals are bootstraps over cases, differences are paired by image. What OUT
holds of the same FOLDER is not trained again.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch
from monai.data import CacheDataset, DataLoader
from monai.losses import DeepSupervisionLoss, DiceCELoss
from monai.metrics import DiceMetric
from monai.networks.nets import DynUNet, UNet
from monai.optimizers import WarmupCosineSchedule
from monai.transforms import Compose, EnsureTyped, RandFlipd, SelectItemsd
from monai.utils import set_determinism
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, PolynomialLR

from benchmarks.ablations import by_patient, paired_gain, patients
from benchmarks.real import evaluate
from common.datasets.layouts import read_dataset
from common.datasets.phrases import PLAIN
from common.metrics.intervals import mean_interval
from common.transforms.augment import move_slightly, vary_ultrasound
from common.transforms.load import load_grey

logger = logging.getLogger(__name__)
ROOT = Path(__file__).resolve().parents[1]
KEYS = ["image", "label"]
SIZE, BATCH, AFFINE = 160, 8, 0.2
SHIPPED: dict[str, dict[str, object]] = {"akessfa": {"reports": "empty"}, "clip_tnseg": {"fixed_phrase": PLAIN}}


class Recipe(NamedTuple):
    """A network and how it is trained: rates by the step of ``steps``."""

    network: Callable[[], nn.Module]
    optimizer: Callable[[nn.Module], Optimizer]
    schedule: Callable[[Optimizer, int], LRScheduler]


RECIPES = {
    "unet": Recipe(
        lambda: UNet(2, 1, 1, channels=(16, 32, 64, 128, 256), strides=(2, 2, 2, 2), num_res_units=2),
        lambda network: torch.optim.AdamW(network.parameters(), lr=1e-3, weight_decay=0.01),
        lambda optimizer, steps: WarmupCosineSchedule(optimizer, warmup_steps=steps // 10, t_total=steps),
    ),
    "nnunet": Recipe(
        lambda: DynUNet(
            2, 1, 1, kernel_size=[3] * 6, strides=[1, 2, 2, 2, 2, 2], upsample_kernel_size=[2] * 5,
            filters=[32, 64, 128, 256, 512, 512], deep_supervision=True, deep_supr_num=4,
        ),
        lambda network: torch.optim.SGD(
            network.parameters(), lr=1e-2, momentum=0.99, nesterov=True, weight_decay=3e-5
        ),
        lambda optimizer, steps: PolynomialLR(optimizer, total_iters=steps, power=0.9),
    ),
}  # fmt: skip


def loader(data: Path, split: str) -> DataLoader:
    """Images and masks of a split; those of the training vary at random as akessfa's do."""
    training = split == "train"
    varied = [
        RandFlipd(KEYS, prob=0.5, spatial_axis=0),
        *move_slightly(KEYS, size=SIZE, share=AFFINE),
        *vary_ultrasound(),
    ]
    transforms = [*load_grey(size=SIZE, label=True), EnsureTyped(KEYS, track_meta=False), *(varied if training else [])]
    cases = CacheDataset(read_dataset(str(data), split), Compose([*transforms, SelectItemsd(KEYS)]), progress=False)
    return DataLoader(cases, batch_size=BATCH, shuffle=training, drop_last=training)


def loss_of(network: nn.Module, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    """Dice and cross-entropy; of a network that answers at several depths, (B, S, 1, H, W), of each of them."""
    loss, answer = DiceCELoss(sigmoid=True), network(batch["image"])
    if answer.ndim == batch["label"].ndim:
        return loss(answer, batch["label"])
    return DeepSupervisionLoss(loss)(list(answer.unbind(1)), batch["label"])


def dice_of(network: nn.Module, batches: DataLoader) -> list[float]:
    """Dice of each image, with the mean of the image's logits and its mirror image's."""
    metric = DiceMetric()
    network.eval()
    with torch.no_grad():
        for batch in batches:
            image = batch["image"]
            logits = network(image) + network(image.flip(-2)).flip(-2)
            metric((logits > 0).float(), batch["label"])
    return metric.get_buffer().flatten().tolist()


def train(name: str, data: Path, epochs: int, seed: int) -> nn.Module:
    """The network of a recipe as it was in the epoch whose Dice on fold 1 was highest."""
    set_determinism(seed)
    recipe = RECIPES[name]
    network = recipe.network()
    batches, validation = loader(data, "train"), loader(data, "validation")
    optimizer = recipe.optimizer(network)
    schedule = recipe.schedule(optimizer, epochs * len(batches))
    best, highest, start = network.state_dict(), -1.0, time.monotonic()
    for epoch in range(1, epochs + 1):
        network.train()
        for batch in batches:
            optimizer.zero_grad()
            loss_of(network, batch).backward()
            nn.utils.clip_grad_norm_(network.parameters(), 12.0)
            optimizer.step()
            schedule.step()
        values = dice_of(network, validation)
        average = sum(values) / len(values)
        logger.info(
            "%s, epoch %d/%d: validation Dice %.3f, %.0f s", name, epoch, epochs, average, time.monotonic() - start
        )
        if average > highest:
            highest, best = average, {key: value.clone() for key, value in network.state_dict().items()}
    network.load_state_dict(best)
    return network


def plain(name: str, data: Path, out: Path, epochs: int, seed: int) -> dict[str, list[float]]:
    """Dice of fold 0 by case, of a network that is trained unless ``out`` has it."""
    file = out / f"{name}_{epochs}_{seed}.pt"
    if file.is_file():
        network = RECIPES[name].network()
        network.load_state_dict(torch.load(file, weights_only=True))
    else:
        network = train(name, data, epochs, seed)
        torch.save(network.state_dict(), file)
    dice: dict[str, list[float]] = defaultdict(list)
    for case, value in zip(read_dataset(str(data), "test"), dice_of(network, loader(data, "test")), strict=True):
        dice[case["case"]].append(value)
    return dice


def shipped(bundle: str, data: Path, out: Path) -> dict[str, list[float]]:
    """Dice of fold 0 by case, of the weights that come along, by the image alone and its mirror image."""
    output, options = out / bundle, {"dataset_dir": data, "flips": True, **SHIPPED[bundle]}
    evaluate(bundle, ROOT / "bundles" / bundle / "models", ["train.json"], output, options)
    return by_patient(output / "per_case.csv", "dice", patients(str(data)))


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with ddti")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--networks", nargs="+", choices=list(RECIPES), default=list(RECIPES))
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    data, out = arguments.data / "ddti", arguments.out
    out.mkdir(parents=True, exist_ok=True)
    ours = {bundle: shipped(bundle, data, out) for bundle in SHIPPED}
    theirs = {name: plain(name, data, out, arguments.epochs, arguments.seed) for name in arguments.networks}
    rows = ["DDTI fold 0, the image alone | Dice [95 %]"]
    for name, dice in {**ours, **theirs}.items():
        rows.append("{} | {:.3f} [{:.3f}, {:.3f}]".format(name, *mean_interval(dice.values())))
    rows += [
        f"{bundle} less {other} | {paired_gain(dice, theirs[other])}"
        for bundle, dice in ours.items()
        for other in theirs
    ]
    logger.info("%s", "\n".join(rows))


if __name__ == "__main__":
    main()
