"""``make demo``: all five models on drawn example images, with the weights that come along; in under a minute.

An ultrasound image with a nodule, the views of a thyroid study and a chest X-ray are drawn, each with its truth. Each
model answers; results go to ``runs/demo/NAME/``, each with a page. What is drawn is no patient: it shows what the
models read and write, not what they can do (the cards quote figures on real images).
"""

from __future__ import annotations

import argparse
import logging
import shutil
import time
import warnings
from pathlib import Path

import numpy as np
from PIL import Image

from common import predict
from common.cli.atomic import discard, folder_beside, replace_folder, require_own
from common.datasets.studies import read_studies
from common.synthetic.chest import ChestOptions, write_chests
from common.synthetic.studies import StudyOptions, write_studies
from common.synthetic.thyroid_phantom import Nodule
from common.synthetic.thyroid_phantom import draw as draw_lobe

logger = logging.getLogger(__name__)
ROOT = Path(__file__).resolve().parents[1]
SEED = 77  # of no training
DRAWN = 128  # pixels of the drawn images that sgf and d2rnet were trained on
NODULE = Nodule(
    x=0.28, y=0.42, radius=0.12, column="left", row="upper", composition="solid", echogenicity="hypoechoic",
    shape="taller-than-wide", margin="irregular", foci="punctate",
)  # fmt: skip
REPORT = (
    "The thyroid is normal in size. A solid hypoechoic nodule with an irregular margin and punctate echogenic foci is "
    "seen in the upper left part. The isthmus is not thickened."
)


def draw(folder: Path) -> tuple[Path, Path]:
    """Draw the examples into ``folder``; return the ultrasound image and the true mask of its nodule."""
    pixels, masks = draw_lobe([NODULE], 320, np.random.default_rng(SEED))
    image, mask = folder / "nodule.png", folder / "truth.png"
    Image.fromarray(pixels).save(image)
    Image.fromarray(masks[0].astype(np.uint8) * 255).save(mask)
    return image, mask


def draw_study(folder: Path, kind: str) -> tuple[Path, str]:
    """Draw a study, "thyroid" or "chest", into a folder of its own; return that and the reference report."""
    drawn = folder / f"{kind} studies"
    if kind == "chest":
        write_chests(str(drawn), ChestOptions(studies=12, size=DRAWN, seed=SEED))
    else:
        write_studies(str(drawn), StudyOptions(studies=12, size=DRAWN, seed=SEED))
    study = max(read_studies(str(drawn), "train", views=2), key=lambda study: len(study["report"]))
    place = folder / kind
    place.mkdir()
    for image in study["images"]:
        shutil.copy(image, place)
    shutil.rmtree(drawn)
    return place, study["report"]


def dice(mask: np.ndarray, truth: np.ndarray) -> float:
    """Overlap of two boolean masks (H, W), in [0, 1]."""
    return float(2 * (mask & truth).sum() / (mask.sum() + truth.sum()))


def demonstrate(folder: Path) -> None:
    """Ask all five models, save their results below ``folder``, and say what each means."""
    image, mask = draw(folder)
    truth = np.asarray(Image.open(mask)) > 0
    asked: dict[str, dict[str, str]] = {"akessfa": {"report": REPORT}, "clip_tnseg": {"phrase": "thyroid nodule"}}
    for name, beside in asked.items():
        result = predict.load(name)(image, **beside)
        assert isinstance(result, predict.Segmentation)
        result.save(folder / name)
        overlap = f"they overlap with Dice {dice(result.mask, truth):.2f} (1 is the same)"
        does = f"outlines the nodule that the {next(iter(beside))} speaks of"
        tell(name, does, result.summary(), f"the outline that was drawn; {overlap}")
    result = predict.load("hfcn")(image, mask=mask)
    result.save(folder / "hfcn")
    tell("hfcn", "benign or malignant, of an image with the nodule's mask", result.summary(),
         "drawn with the signs of a malignant one: hypoechoic, irregular, taller than wide, punctate foci")  # fmt: skip
    for name, kind in (("sgf", "thyroid"), ("d2rnet", "chest")):
        study, report = draw_study(folder, kind)
        result = predict.load(name)(study)
        result.save(folder / name)
        lesions = [f"{box.label} {box.score:.2f}" for box in getattr(result, "boxes", ())]
        told = f"{result.summary()} Lesions: {', '.join(lesions) or 'none'}." if name == "d2rnet" else result.summary()
        tell(name, f"writes the report of a {kind} study", told, report)


def tell(name: str, does: str, answer: str, truth: str) -> None:
    """A model's answer beside the truth."""
    logger.info("\n%s %s\n  answer:    %s\n  reference: %s", name, does, answer, truth)


def main() -> None:
    start = time.perf_counter()
    warnings.simplefilter("ignore")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("ignite").setLevel(logging.WARNING)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "demo", help="folder for the results")
    out = parser.parse_args().out.resolve()
    try:
        require_own(out, id="out")
    except ValueError as error:
        raise SystemExit(str(error)) from error
    folder = folder_beside(out)
    try:
        demonstrate(folder)
        replace_folder(folder, out, id="out")
    finally:
        discard(folder)
    logger.info("\n%.0f s. Pages: %s", time.perf_counter() - start, out / "*" / "index.html")


if __name__ == "__main__":
    main()
