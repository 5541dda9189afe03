"""Calibrated probabilities of HFCN, the band in which no class is sure, and the file that holds both."""

import json
import shutil

import numpy as np
import pytest
import torch
from hfcn.calibration import SHARE, Calibration, calibrated_metrics, file_of, read_calibration
from hfcn.predictions import describe
from scipy.special import expit

from common.engine.beside_weights import save_numbers
from common.metrics.classification import calibration_error, of_least_certain
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
    threshold = float(prob[np.abs(calibration(prob) - 0.5).argmin()])
    metrics = calibrated_metrics(calibration, label, prob, threshold)
    right = (prob >= threshold) == (label == 1)
    assert metrics["accuracy_when_sure"] > right.mean() + 0.05 and 0.05 < metrics["unsure_share"] < 0.6
    assert metrics["accuracy_least_certain"] < right.mean() - 0.1
    assert metrics["calibrated_images"] == 2000


def test_the_fifth_that_is_least_certain():
    certainty = np.array([0.9, 0.1, 0.5, 0.6, 0.7, 0.8, 0.2, 0.9, 0.9, 0.9])
    assert of_least_certain(certainty, np.arange(10.0)) == (1 + 6) / 2
    assert of_least_certain(np.ones(10), np.arange(10.0)) == 4.5
    assert of_least_certain(certainty[:2], np.arange(2.0)) == 1 and np.isnan(of_least_certain(np.zeros(0), np.zeros(0)))


def test_no_class_is_told_where_the_other_one_is_sure(distorted):
    calibration = Calibration.fit(*distorted)
    for threshold in (0.05, 0.3, 0.95):
        around = calibration.around(threshold)
        sure = ~around.is_unsure(calibration(distorted[1]))
        malignant = calibration(distorted[1]) >= around.high
        assert ((distorted[1] >= threshold) == malignant)[sure].all()


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
        (np.array([1] * 10 + [0] * 10), np.linspace(0, 1, 20), "no surely higher probability"),
        (np.array([0] * 10 + [1] * 20), np.full(30, 0.7), "no surely higher probability"),
        (np.array([0, 1] * 15), np.linspace(0, 1, 30), "no surely higher probability"),
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
    assert describe({**item, "can_be_calibrated": torch.tensor(False)}, 0.5, calibration)["unsure"] is None
    assert describe({**item, "can_be_calibrated": torch.tensor(True)}, 0.5)["prob_calibrated"] is None


def test_the_file_belongs_to_its_weights(tmp_path, caplog):
    weights = tmp_path / "model.pt"
    weights.write_bytes(b"weights")
    assert read_calibration(str(weights)) is None
    numbers = Calibration(1.0, 0.0, 0.4, 0.6, 50)._asdict()
    file_of(weights).write_text(json.dumps({"weights": "other", **numbers}))
    assert read_calibration(str(weights)) is None and "belongs to other weights" in caplog.text
    wrong = ({"low": 2}, {"slope": -1.0}, {"slope": float("nan")}, {"offset": float("inf")})
    damaged = [json.dumps({"weights": "x", **numbers, **change}) for change in wrong]
    for content in ("{", "[]", json.dumps(numbers), *damaged):
        file_of(weights).write_text(content)
        with pytest.raises(ValueError, match="is damaged; make it anew"):
            read_calibration(str(weights))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A tiny training, and the overrides that the next commands need."""
    folder, tiny = tmp_path_factory.mktemp("hfcn"), TINY["hfcn"]
    places = {name: folder / place for name, place in PLACES.items()}
    common = flags(tiny["network"], {**tiny["data"], "synthetic#reports": 60}, places)
    done = checked(monai_bundle("run", "--config_file", train_files("hfcn"), *common,
                                *flags(tiny["train"], epochs=1)), 0)  # fmt: skip
    assert "calibration: " in done.stdout + done.stderr
    return folder, common


def test_evaluation_and_inference_tell_it(trained, tmp_path):
    folder, common = trained
    weights = folder / "models/model.pt"
    save_numbers(file_of(weights), Calibration(2.0, 0.5, 0.3, 0.7, 61)._asdict(), weights=str(weights))
    checked(monai_bundle("run", "--config_file", train_files("hfcn", "evaluate"), *common), 0)
    assert 0 <= json.loads((folder / "eval/metrics.json").read_text())["unsure_share"] <= 1
    own = flags(output_dir=tmp_path / "out")
    checked(monai_bundle("run", "--config_file", "bundles/hfcn/configs/inference.json", *common[:-4], *own,
                         *flags(synthetic_dir=folder / "synthetic", ckpt_dir=folder / "models")), 0)  # fmt: skip
    entries = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert entries and all(0 < entry["prob_calibrated"] < 1 for entry in entries)


def test_it_is_fitted_to_validation_alone_and_a_failure_leaves_what_is_there(trained):
    folder, common = trained
    weights = folder / "models" / "model.pt"
    file_of(weights).write_text("{")  # damaged: the command that its error names mends it
    fit = ["run", "--run_id", "fit_calibration", "--config_file", train_files("hfcn", "evaluate"), *common]
    done = monai_bundle(*fit)
    assert done.returncode != 0 and "split: 'test' is no split that was held out" in done.stderr
    assert file_of(weights).read_text() == "{"
    done = monai_bundle(*fit, "--split", "validation")
    fitted = file_of(weights).read_text() != "{"
    assert (done.returncode == 0) == fitted
    assert fitted or "calibration: not fitted" in done.stderr


def test_it_needs_no_training_images(trained, synthetic, tmp_path):
    """A hospital's own images, all of them held out."""
    for name in ("images", "masks"):
        shutil.copytree(synthetic / name, tmp_path / name)
    names = sorted(path.name for path in (synthetic / "images").glob("*.png"))[:12]
    rows = [f"images/{name},masks/{name},{('benign', 'malignant')[index % 2]},{index},validation"
            for index, name in enumerate(names)]  # fmt: skip
    (tmp_path / "cases.csv").write_text("\n".join(["image,mask,label,patient_id,split", *rows]))
    fit = ["run", "--run_id", "fit_calibration", "--config_file", train_files("hfcn", "evaluate"), *trained[1]]
    done = monai_bundle(*fit, "--split", "validation", "--dataset_dir", tmp_path)
    told = done.stdout + done.stderr
    assert "calibration: not fitted (malignant images" in told or "fitted to 12 images held out" in told, told[-900:]
