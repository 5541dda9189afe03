"""How well a bundle tells images like those of its training from others.

``python -m benchmarks.familiarity akessfa --data FOLDER``

FOLDER holds ``ddti`` (or ``ddti_crops``, for hfcn), ``busi``, ``iu_xray`` and ``tg3k``. Of fold 0 of DDTI, which the
weights that come along have not seen, and of each other kind of image: ROC AUC of the familiarity, and the share that
is warned of. Drawn phantoms, noise, plain frames, photographs and pieces of screenshots are made here.
"""

from __future__ import annotations

import argparse
import csv
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_sample_images
from sklearn.metrics import roc_auc_score

from akessfa.data import read_cases
from common import predict
from common.datasets.layouts import read_dataset
from common.metrics.familiarity import UNFAMILIAR
from common.synthetic.thyroid import dataset_or_synthetic

logger = logging.getLogger(__name__)
ROOT = Path(__file__).resolve().parents[1]
KNOWN = {"akessfa": "ddti", "clip_tnseg": "ddti", "hfcn": "ddti_crops"}
MOST = 100  # images of a kind


def listed(folder: Path) -> list[Path]:
    """Images that ``cases.csv`` of ``folder`` names."""
    with open(folder / "cases.csv", newline="", encoding="utf-8") as file:
        return [folder / "image" / row["image"] for row in csv.DictReader(file)]


def pieces(picture: Image.Image, count: int, rng: np.random.Generator) -> Iterator[Image.Image]:
    """Pieces of half the sides of ``picture``, at random places."""
    width, height = picture.size[0] // 2, picture.size[1] // 2
    for left, top in zip(rng.integers(0, width, count), rng.integers(0, height, count), strict=True):
        yield picture.crop((int(left), int(top), int(left) + width, int(top) + height))


def others(data: Path, scratch: Path) -> dict[str, list]:
    """Images of other kinds, at most :data:`MOST` each."""
    rng = np.random.default_rng(0)
    drawn = dataset_or_synthetic(
        dataset_dir=None, synthetic_dir=str(scratch / "drawn"), options={"reports": 80, "size": 160, "seed": 1}
    )
    photographs = [Image.fromarray(image) for image in load_sample_images()["images"]]
    screens = [Image.open(file).convert("RGB") for file in sorted(ROOT.glob("docs/*.jpg"))]
    test = [Image.open(case["image"]).convert("L") for case in read_dataset(str(data / "ddti"), "test")]
    kinds: dict[str, list] = {
        "BUSI (breast)": listed(data / "busi"),
        "IU X-ray (chest)": sorted((data / "iu_xray").rglob("*.jpg")),
        "TG3K (thyroid, other scanners)": sorted((data / "tg3k" / "thyroid-image").iterdir()),
        "drawn phantoms": sorted(Path(drawn, "images").iterdir()),
        "noise": [rng.integers(0, 256, (300, 400)).astype(np.uint8) for _ in range(30)],
        "plain frames": [np.full((300, 400), grey, np.uint8) for grey in range(0, 256, 10)],
        "photographs": [piece for image in photographs for piece in pieces(image, 20, rng)],
        "screenshots": [piece for image in screens for piece in pieces(image, 20, rng)],
        "DDTI upside down": [image.transpose(Image.Transpose.FLIP_TOP_BOTTOM) for image in test],
        "DDTI inverted": [Image.eval(image, lambda grey: 255 - grey) for image in test],
    }
    return {name: [images[index] for index in rng.permutation(len(images))[:MOST]] for name, images in kinds.items()}


def measure(bundle: str, data: Path, scratch: Path) -> str:
    """The table of one bundle."""
    model = predict.load(bundle)
    cases = read_dataset(str(data / KNOWN[bundle]), "test")
    masks = {"mask": [case["label"] for case in cases]} if "mask" in model.reads else {}
    known = model([case["image"] for case in cases], **masks)
    familiar = [result.familiarity for result in known]
    rows = [f"{bundle} | ROC AUC | warned of", f"fold 0 ({len(familiar)}) | | {share(familiar):.2f}"]
    for name, images in others(data, scratch).items():
        values = [result.familiarity for result in model([str(i) if isinstance(i, Path) else i for i in images])]
        truth = [1] * len(familiar) + [0] * len(values)
        rows.append(f"{name} ({len(values)}) | {roc_auc_score(truth, familiar + values):.3f} | {share(values):.2f}")
    return "\n".join(rows)


def measure_reports(data: Path) -> str:
    """ROC AUC of akessfa's ``report_fit``, of fold 0 with its own templated reports against another patient's."""
    model, fits = predict.load("akessfa"), {}
    for kind in ("own", "wrong"):
        cases = read_cases(root=str(data / "ddti"), split="test", reports=kind)
        results = model([case["image"] for case in cases], report=[case["report"] for case in cases])
        fits[kind] = [result.to_dict()["report_fit"] for result in results]
    truth = [1] * len(fits["own"]) + [0] * len(fits["wrong"])
    return (
        f"akessfa | report_fit, own against another patient's | {roc_auc_score(truth, fits['own'] + fits['wrong']):.3f}"
    )


def share(values: list) -> float:
    """Share that is warned of."""
    return float(np.mean([value < UNFAMILIAR for value in values]))


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("ignite").setLevel(logging.WARNING)
    logging.getLogger("common.images.files").setLevel(logging.WARNING)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", nargs="+", choices=list(KNOWN))
    parser.add_argument("--data", type=Path, required=True)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        tables = [measure(bundle, arguments.data, Path(scratch)) for bundle in arguments.bundles]
    if "akessfa" in arguments.bundles:
        tables.append(measure_reports(arguments.data))
    logger.info("%s", "\n\n".join(tables))


if __name__ == "__main__":
    main()
