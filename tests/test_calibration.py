"""Calibrated probabilities of HFCN, the band in which no class is sure, and the file that holds both."""

import json

import numpy as np
import pytest
import torch
from hfcn.calibration import SHARE, Calibration, calibrated_metrics, file_of, read_calibration
from hfcn.predictions import describe
from scipy.special import expit

from common.metrics.classification import calibration_error
from tests.test_bundle_contract import PLACES, TINY, checked, flags, train_files
from tests.warm import monai_bundle


@pytest.fixture(scope="module")
def distorted():
    """Labels drawn by their log-odds, and probabilities that are too low and too near to a half."""
    rng = np.random.default_rng(0)
    odds = rng.normal(1.0, 2.0, 4000)
    label = (rng.random(4000) < expit(odds)).astype(int)
    return label, expit(0.4 * odds - 1.0)


def test_what_was_distorted_is_right_on_other_images(distorted):
    label, prob = (values[:2000] for values in distorted)
    calibration = Calibration.fit(label, prob)
    assert (calibration.slope, calibration.offset) == pytest.approx((2.5, 2.5), abs=0.3)
    label, prob = (values[2000:] for values in distorted)
    assert calibration_error(label, prob) > 0.2 > 0.04 > calibration_error(label, calibration(prob))
    metrics = calibrated_metrics(calibration, label, prob)
    right = (calibration(prob) >= 0.5) == (label == 1)
    assert metrics["accuracy_when_sure"] > right.mean() + 0.05 and 0.05 < metrics["unsure_share"] < 0.6


def test_the_band_has_the_stated_sensitivity_and_specificity(distorted):
    label, prob = distorted
    calibration = Calibration.fit(label, prob)
    calibrated = calibration(prob)
    assert (calibrated[label == 1] >= calibration.low).mean() == pytest.approx(SHARE, abs=0.02)
    assert (calibrated[label == 0] < calibration.high).mean() == pytest.approx(SHARE, abs=0.02)
    assert calibration.is_unsure(calibration.low) and not calibration.is_unsure(calibration.high)


def test_extremes_stay_probabilities():
    calibration = Calibration(2.0, 0.0, 0.4, 0.6, 50)
    assert 0 < calibration(0.0) < 1e-6 and 1 - 1e-6 < calibration(1.0) < 1 and calibration(0.5) == 0.5


@pytest.mark.parametrize(
    ("label", "prob", "message"),
    [
        (np.array([0] * 3 + [1] * 20), np.linspace(0, 1, 23), "3 benign and 20 malignant images; it takes 5 of each"),
        (np.array([1] * 10 + [0] * 10), np.linspace(0, 1, 20), "no higher probability"),
    ],
)
def test_what_cannot_be_calibrated_is_refused(label, prob, message):
    with pytest.raises(ValueError, match=message):
        Calibration.fit(label, prob)


def test_an_entry_tells_it_of_images_that_can_be_calibrated():
    item = {name: torch.tensor(0.3) for name in ("prob", "prob_global", "prob_crops", "prob_mask")}
    item |= {"crop_probs": torch.tensor([0.3]), "asks_mask": torch.tensor(True)}
    calibration = Calibration(1.0, 1.0, 0.4, 0.7, 50)
    known = describe({**item, "can_be_calibrated": torch.tensor(True)}, 0.5, calibration)
    assert known["class"] == "benign" and known["unsure"] is True
    assert known["prob_calibrated"] == pytest.approx(expit(np.log(0.3 / 0.7) + 1), abs=1e-4)
    assert "unsure" not in describe({**item, "can_be_calibrated": torch.tensor(False)}, 0.5, calibration)
    assert "unsure" not in describe({**item, "can_be_calibrated": torch.tensor(True)}, 0.5)


def test_the_file_belongs_to_its_weights(tmp_path, caplog):
    weights = tmp_path / "model.pt"
    weights.write_bytes(b"weights")
    assert read_calibration(str(weights)) is None
    numbers = Calibration(1.0, 0.0, 0.4, 0.6, 50)._asdict()
    file_of(weights).write_text(json.dumps({"weights": "other", **numbers}))
    assert read_calibration(str(weights)) is None and "belongs to other weights" in caplog.text
    for content in ("{", "[]", json.dumps({"weights": "x", **numbers, "low": 2}), json.dumps({**numbers})):
        file_of(weights).write_text(content)
        with pytest.raises(ValueError, match="is damaged; make it anew"):
            read_calibration(str(weights))


def test_a_training_leaves_it_and_inference_tells_it(tmp_path):
    tiny = TINY["hfcn"]
    places = {name: tmp_path / place for name, place in PLACES.items()}
    data = {**tiny["data"], "synthetic#reports": 60}
    common = flags(tiny["network"], data, places)
    train = ["run", "--config_file", train_files("hfcn"), *common, *flags(tiny["train"], epochs=1)]
    done = checked(monai_bundle(*train), 0)
    assert "calibration: " in done.stdout + done.stderr
    assert file_of(tmp_path / "models/model.pt").is_file(), done.stdout[-800:]
    checked(monai_bundle("run", "--config_file", train_files("hfcn", "evaluate"), *common), 0)
    assert 0 <= json.loads((tmp_path / "eval/metrics.json").read_text())["unsure_share"] <= 1
    inference = ["run", "--config_file", "bundles/hfcn/configs/inference.json"]
    own = flags(tiny["network"], data, places, output_dir=tmp_path / "out")
    checked(monai_bundle(*inference, *own), 0)
    entries = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert entries and all({"prob_calibrated", "unsure"} <= entry.keys() for entry in entries)
