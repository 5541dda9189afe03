"""Something to serve at once: small bundles trained on synthetic images, and images to ask about.

``python -m label_app.examples --out runs/label`` writes ``runs/label/bundles`` (about ten minutes on two cores; bundles
that are there are kept) and ``runs/label/studies``. Their answers show the way, not what the bundles can do.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

HERE = Path(__file__).resolve().parent
if __name__ == "__main__":
    paths = [str(HERE / "shim"), str(HERE.parent), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(path for path in paths if path)  # for pre-training in its own process
    sys.path.insert(0, paths[0])
    sys.modules.pop("sitecustomize", None)
    import sitecustomize  # noqa: F401  (the shim, before anything imports torchvision)

from monai.bundle import ConfigParser, ConfigWorkflow  # noqa: E402
from PIL import Image  # noqa: E402

logger = logging.getLogger(__name__)
BUNDLES = HERE.parent / "bundles"
SMALL = HERE / "small.json"


def train_small(name: str, folder: Path, sizes: Mapping) -> Path:
    """Copy the bundle ``name`` to ``folder/name``, write smaller sizes into its configs, and train it there.

    Args:
        sizes: ``network``, ``data``, ``train`` overrides, and ``also``: other configs to train, with theirs.
    """
    bundle = folder / name
    ignored = shutil.ignore_patterns("models", "eval", "data", "__pycache__")
    shutil.copytree(BUNDLES / name, bundle, ignore=ignored)
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


def write_studies(bundles: Path, studies: Path, *, count: int = 6) -> None:
    """Copy some of the synthetic images that the bundles drew: thyroid ultrasound, and chest X-rays."""
    studies.mkdir(parents=True, exist_ok=True)
    for name, title in (("akessfa", "thyroid"), ("d2rnet", "chest")):
        images = sorted((bundles / name / "data" / "synthetic" / "images").glob("*.png"))[-count:]
        for number, image in enumerate(images):
            Image.open(image).save(studies / f"{title}{number}.png")


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
            logger.info("training a small %s", name)
            shutil.rmtree(folder / name, ignore_errors=True)
            train_small(name, folder, sizes[name])
    write_studies(folder, arguments.out / "studies")


if __name__ == "__main__":
    main()
