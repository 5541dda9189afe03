"""Examples to click: drawn images, of no patient, with a report or a phrase."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from common.synthetic.chest import ChestOptions, write_chests
from common.synthetic.studies import StudyOptions, write_studies
from common.synthetic.thyroid_phantom import Nodule, draw
from label_app.examples import write_dicom

SIZE, SEED = 320, 77  # of no training
DRAWN = 128  # pixels of the drawn images that sgf and d2rnet were trained on
SUSPICIOUS = Nodule(
    x=0.30, y=0.42, radius=0.12, column="left", row="upper", composition="solid", echogenicity="hypoechoic",
    shape="taller-than-wide", margin="irregular", foci="punctate",
)  # fmt: skip
BRIGHT = Nodule(
    x=0.68, y=0.62, radius=0.11, column="right", row="lower", composition="solid", echogenicity="hyperechoic",
    shape="round", margin="smooth", foci="none",
)  # fmt: skip
HARMLESS = Nodule(
    x=0.62, y=0.55, radius=0.14, column="right", row="lower", composition="solid", echogenicity="isoechoic",
    shape="wider-than-tall", margin="smooth", foci="none",
)  # fmt: skip
LEFT = (
    "A hypoechoic taller-than-wide nodule is seen in the upper left part with an irregular margin and punctate "
    "echogenic foci."
)
RIGHT = "A hyperechoic round nodule is seen in the lower right part with a smooth margin."


class Example(NamedTuple):
    """An example: the model that it is for, a text, and the images (of hfcn a mask, too) by their names."""

    id: str
    model: str
    text: str
    files: Mapping[str, bytes]

    def told(self) -> dict[str, object]:
        """What the page needs to offer it."""
        return {"id": self.id, "model": self.model, "text": self.text, "files": list(self.files)}


@functools.cache
def examples() -> dict[str, Example]:
    """All examples by their ids; they are drawn at the first call."""
    with tempfile.TemporaryDirectory(prefix="examples-") as name:
        folder = Path(name)
        drawn = [*_nodules(folder), *_classes(folder), _study(folder), *_chests(folder)]
    return {example.id: example for example in drawn}


def _nodules(folder: Path) -> list[Example]:
    """Two reports of one image with two nodules, and a phrase of one in DICOM, which tells millimetres."""
    both = _draw(folder / "nodules.png", [SUSPICIOUS, BRIGHT], seed=78)
    single = _draw(folder / "nodule.png", [SUSPICIOUS])
    write_dicom(Image.open(single), folder / "ultrasound.dcm", millimetres=0.12)
    return [
        Example("left", "akessfa", LEFT, _bytes(both)),
        Example("right", "akessfa", RIGHT, _bytes(both)),
        Example("phrase", "clip_tnseg", "hypoechoic nodule", _bytes(folder / "ultrasound.dcm")),
    ]


def _classes(folder: Path) -> list[Example]:
    """A nodule with the signs of a malignant one, and one without, each with its outline."""
    made = []
    for id, nodule in (("suspicious", SUSPICIOUS), ("harmless", HARMLESS)):
        image, mask = folder / f"{id}.png", folder / f"{id}_mask.png"
        _draw(image, [nodule], mask)
        made.append(Example(id, "hfcn", "", _bytes(image, mask)))
    return made


def _study(folder: Path) -> Example:
    """Both lobes of a study."""
    write_studies(str(folder / "studies"), StudyOptions(studies=3, size=DRAWN, seed=79))
    left, right = sorted((folder / "studies").rglob("*.png"))[:2]
    return Example("study", "sgf", "", _bytes(left, right))


def _chests(folder: Path) -> list[Example]:
    """X-rays of which report and detector agree, and do not."""
    write_chests(str(folder / "chests"), ChestOptions(studies=3, size=DRAWN, seed=SEED))
    agreed, _, contradicted = sorted((folder / "chests").rglob("*.png"))
    images = {"chest": agreed, "contradiction": contradicted}
    return [Example(id, "d2rnet", "", _bytes(image)) for id, image in images.items()]


def _draw(image: Path, nodules: list[Nodule], mask: Path | None = None, seed: int = SEED) -> Path:
    """Draw ``nodules`` to the file ``image``, and where they are to the file ``mask``."""
    pixels, masks = draw(nodules, SIZE, np.random.default_rng(seed))
    Image.fromarray(pixels).save(image)
    if mask is not None:
        Image.fromarray(255 * np.any(masks, axis=0).astype(np.uint8)).save(mask)
    return image


def _bytes(*files: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in files}
