"""Tiny trained bundles, as a server finds them: ``python -m tests.label.tiny_bundles FOLDER [NAMES]``."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from monai.bundle import ConfigParser, ConfigWorkflow

ROOT = Path(__file__).resolve().parents[2]
TINY = json.loads((ROOT / "tests" / "tiny.json").read_text())


def make_tiny(name: str, folder: Path) -> Path:
    """Copy the bundle ``name`` to ``folder/name``, write tiny sizes into its configs, and train it there."""
    bundle = folder / name
    ignored = shutil.ignore_patterns("models", "eval", "data", "__pycache__")
    shutil.copytree(ROOT / "bundles" / name, bundle, ignore=ignored)
    for config in ("train", "inference"):
        parser = ConfigParser(ConfigParser.load_config_file(bundle / "configs" / f"{config}.json"))
        known = TINY[name]["network"] | (TINY[name]["data"] | TINY[name]["train"] if config == "train" else {})
        for key, value in known.items():
            parser[key] = value
        ConfigParser.export_config_file(parser.config, str(bundle / "configs" / f"{config}.json"), indent=4)
    _train(bundle, "train", {})
    for config, options in TINY[name].get("also", {}).items():
        _train(bundle, config, TINY[name]["data"] | options)
    return bundle


def _train(bundle: Path, config: str, options: dict) -> None:
    workflow = ConfigWorkflow(
        config_file=str(bundle / "configs" / f"{config}.json"),
        workflow_type="train",
        logging_file=False,
        bundle_root=str(bundle),
        **options,
    )
    workflow.initialize()
    workflow.run()


if __name__ == "__main__":
    for wanted in sys.argv[2:] or TINY:
        make_tiny(wanted, Path(sys.argv[1]))
