"""Something to serve at once: bundles with the weights they come with, or small ones trained on synthetic images.

``python -m label_app.examples --out runs/label`` writes ``runs/label/bundles`` (copies; bundles that are there are
kept), ``runs/label/studies`` and ``runs/label/examples``, files to send. With ``--sizes FILE`` small bundles are
trained, whose answers show the way, not what the bundles can do.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

HERE = Path(__file__).resolve().parent
if __name__ == "__main__":
    paths = [str(HERE / "shim"), str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)
    sys.path.insert(0, paths[0])
    sys.modules.pop("sitecustomize", None)
    import sitecustomize  # noqa: F401  (the shim, before anything imports torchvision)

import numpy as np  # noqa: E402
from monai.bundle import ConfigParser, ConfigWorkflow  # noqa: E402
from PIL import Image  # noqa: E402
from pydicom.dataset import Dataset, FileMetaDataset  # noqa: E402
from pydicom.uid import ExplicitVRLittleEndian, UltrasoundImageStorage, generate_uid  # noqa: E402
from sklearn.datasets import load_sample_image  # noqa: E402

from common.images.dicom import CENTIMETRES  # noqa: E402
from common.synthetic.chest import ChestOptions, write_chests  # noqa: E402
from common.synthetic.thyroid import ThyroidOptions, write_synthetic  # noqa: E402

logger = logging.getLogger(__name__)
BUNDLES = HERE.parent / "bundles"
RESULTS = ("eval", "eval_detector", "data", "finetuned", "__pycache__")
SMALL = HERE / "small.json"


def train_small(name: str, folder: Path, sizes: Mapping) -> Path:
    """Copy the bundle ``name``, write smaller sizes into its configs, train it, and put it to ``folder/name``.

    Args:
        sizes: ``network``, ``data``, ``train`` overrides, and ``also``: other configs to train, with theirs.
    """
    return _put(name, folder, lambda bundle: _train_copy(name, bundle, sizes))


def copy_trained(name: str, folder: Path) -> Path:
    """Put the bundle ``name`` to ``folder/name`` with the weights it comes with."""
    ignored = shutil.ignore_patterns(*RESULTS, "checkpoint.pt")
    return _put(name, folder, lambda bundle: shutil.copytree(BUNDLES / name, bundle, ignore=ignored))


def _put(name: str, folder: Path, make: Callable[[Path], object]) -> Path:
    target = folder / name
    if target.exists():
        raise SystemExit(f"out: {str(target)!r} has no models/model.pt and stays; remove it, or pass another --out")
    with tempfile.TemporaryDirectory(dir=folder, prefix=f"{name}.", suffix=".part") as part:
        make(Path(part) / name)
        os.replace(Path(part) / name, target)
    return target


def _train_copy(name: str, bundle: Path, sizes: Mapping) -> Path:
    shutil.copytree(BUNDLES / name, bundle, ignore=shutil.ignore_patterns("models", *RESULTS))
    for config in ("train", "inference"):
        path = bundle / "configs" / f"{config}.json"
        parser = ConfigParser(ConfigParser.load_config_file(path))
        known = {**sizes["network"], **sizes["data"], **(sizes["train"] if config == "train" else {})}
        for key, value in known.items():
            parser[key] = value
        ConfigParser.export_config_file(parser.config, str(path), indent=4)
    _train(bundle, "train", {})
    for config, options in sizes.get("also", {}).items():
        _train(bundle, config, {**sizes["data"], **options})
    return bundle


def _train(bundle: Path, config: str, options: Mapping) -> None:
    workflow = ConfigWorkflow(
        config_file=str(bundle / "configs" / f"{config}.json"),
        workflow_type="train",
        logging_file=str(bundle / "configs" / "logging.conf"),
        bundle_root=str(bundle),
        **options,
    )
    workflow.initialize()
    workflow.run()


def write_studies(studies: Path, *, count: int = 6, size: int = 192, seed: int = 1) -> None:
    """Draw thyroid ultrasound images and chest X-rays to ask about, ``size`` pixels wide."""
    studies.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        thyroid, chest = Path(folder) / "thyroid", Path(folder) / "chest"
        write_synthetic(str(thyroid), ThyroidOptions(reports=count, size=size, seed=seed))
        write_chests(str(chest), ChestOptions(studies=4 * count, size=size, seed=seed))
        for drawn in (thyroid, chest):
            for number, image in enumerate(sorted((drawn / "images").glob("*.png"))[:count]):
                Image.open(image).save(studies / f"{drawn.name}{number}.png")


def write_files(studies: Path, folder: Path) -> None:
    """Files for calls that send one: a picture, the same as DICOM, half of that, a text with a picture's name, noise,
    and a photograph.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy(studies / "thyroid0.png", folder)
    picture = Image.open(studies / "thyroid0.png").convert("L")
    write_dicom(picture, folder / "ultrasound.dcm", millimetres=0.4)
    whole = (folder / "ultrasound.dcm").read_bytes()
    (folder / "damaged.dcm").write_bytes(whole[: len(whole) // 2])
    (folder / "notes.png").write_text("This is no picture.")
    noise = np.random.default_rng(0).integers(0, 256, (240, 320)).astype(np.uint8)
    Image.fromarray(noise).save(folder / "noise.png")
    Image.fromarray(load_sample_image("flower.jpg")).save(folder / "flower.png")
    with suppress(ImportError):  # of the server's environment alone
        from skimage.data import cat

        Image.fromarray(cat()).save(folder / "cat.png")


def write_dicom(picture: Image.Image, path: Path, *, millimetres: float) -> None:
    """``picture`` as an ultrasound image of a made-up patient, calibrated to ``millimetres`` a pixel."""
    region, image = Dataset(), Dataset()
    region.RegionSpatialFormat, region.RegionDataType, region.RegionFlags = 1, 1, 0
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 0, 0
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = picture.width - 1, picture.height - 1
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = CENTIMETRES
    region.PhysicalDeltaX = region.PhysicalDeltaY = millimetres / 10
    image.SequenceOfUltrasoundRegions = [region]
    image.PatientName, image.PatientID, image.PatientBirthDate, image.PatientSex = (
        "Synthetic^Example",
        "EXAMPLE",
        "",
        "O",
    )
    image.StudyDate, image.StudyTime, image.StudyID, image.AccessionNumber = "20260101", "120000", "1", ""
    image.ContentDate, image.ContentTime, image.ReferringPhysicianName = "20260101", "120000", ""
    image.StudyDescription, image.SeriesDescription, image.ImageType = "Synthetic", "Thyroid", ["DERIVED", "SECONDARY"]
    image.Modality, image.Manufacturer, image.SeriesNumber, image.InstanceNumber = "US", "", 1, 1
    image.StudyInstanceUID, image.SeriesInstanceUID, image.SOPInstanceUID = (generate_uid() for _ in range(3))
    image.SOPClassUID, image.PatientOrientation, image.BurnedInAnnotation = UltrasoundImageStorage, "", "NO"
    image.Columns, image.Rows = picture.size
    image.SamplesPerPixel, image.PhotometricInterpretation, image.PixelRepresentation = 1, "MONOCHROME2", 0
    image.BitsAllocated, image.BitsStored, image.HighBit = 8, 8, 7
    image.WindowCenter, image.WindowWidth = "127.5", "255"
    pixels = picture.tobytes()
    image.PixelData = pixels + b"\0" * (len(pixels) % 2)
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.save_as(path, enforce_file_format=True)


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(prog="python -m label_app.examples", description=__doc__)
    parser.add_argument("--out", type=Path, default=HERE.parent / "runs" / "label")
    parser.add_argument("--sizes", type=Path, default=SMALL, help="JSON with the overrides of each bundle")
    parser.add_argument("--names", nargs="*", help="of the bundles; default: all")
    arguments = parser.parse_args()
    sizes, folder = json.loads(arguments.sizes.read_text(encoding="utf-8")), arguments.out / "bundles"
    for name in arguments.names or sizes:
        if not (folder / name / "models" / "model.pt").is_file():
            folder.mkdir(parents=True, exist_ok=True)
            if arguments.sizes == SMALL and (BUNDLES / name / "models" / "model.pt").is_file():
                copy_trained(name, folder)
            else:
                logger.info("training a small %s", name)
                train_small(name, folder, sizes[name])
    write_studies(arguments.out / "studies")
    write_files(arguments.out / "studies", arguments.out / "examples")


if __name__ == "__main__":
    main()
