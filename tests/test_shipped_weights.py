"""The weights that bundles come with: whole, small, without code, and they segment at once."""

import hashlib
import json

import numpy as np
import pytest
import torch
from PIL import Image

from tests.test_bundle_contract import checked, flags
from tests.warm import ROOT, monai_bundle

SHIPPED = ("akessfa",)
LARGEST = 16 * 2**20


@pytest.mark.parametrize("bundle", SHIPPED)
def test_they_are_whole_and_small_and_hold_no_code(bundle):
    models = ROOT / "bundles" / bundle / "models"
    content = json.loads((models / "model.json").read_text())
    for name, digests in content["files"].items():
        assert hashlib.sha256((models / name).read_bytes()).hexdigest() in digests, name
    assert (models / "model.pt").stat().st_size <= LARGEST
    state = torch.load(models / "model.pt", weights_only=True)
    assert all(value.isfinite().all() for value in state.values() if value.is_floating_point())


def lobe(size=200):
    """Speckle with a dark ellipse right of the middle, and its mask."""
    generator = np.random.default_rng(0)
    y, x = np.mgrid[:size, :size] / size
    inside = ((x - 0.6) / 0.16) ** 2 + ((y - 0.45) / 0.13) ** 2 < 1
    level = np.where(inside, 40, 110) * generator.rayleigh(0.8, (size, size))
    return np.clip(level, 0, 255).astype(np.uint8), inside


@pytest.mark.parametrize("report", ["", "A medium-sized round nodule lies in the central part. The isthmus is normal."])
def test_akessfa_segments_at_once(report, tmp_path):
    image, inside = lobe()
    Image.fromarray(image).save(tmp_path / "lobe.png")
    options = flags(image=tmp_path / "lobe.png", report=report, output_dir=tmp_path / "out")
    done = checked(monai_bundle("run", "--config_file", "bundles/akessfa/configs/inference.json", *options), 0)
    assert "Traceback" not in done.stderr
    (entry,) = json.loads((tmp_path / "out" / "predictions.json").read_text())
    mask = np.asarray(Image.open(tmp_path / "out" / entry["mask"])) > 0
    dice = 2 * (mask & inside).sum() / (mask.sum() + inside.sum())
    assert dice > 0.6, dice
