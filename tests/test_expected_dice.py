"""The Dice that a mask can be expected to have: fitted to images held out, told of masks like those."""

import json
import math
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from common import predict
from common.cli.trained import digest_of
from common.results import expected_dice
from common.results.dicom import DicomResults
from common.results.expected_dice import ExpectedDice, MaskConfidence, certainty, file_of, read_expected_dice
from common.results.findings import Finding, nodules_of
from common.results.predictions import Shown, with_familiarity
from common.synthetic.thyroid import ThyroidOptions, write_synthetic
from tests.dicom_files import dicom_file, read
from tests.test_bundle_contract import ROOT, checked
from tests.warm import monai_bundle


def test_the_line_is_what_the_images_were_drawn_from():
    generator = np.random.default_rng(0)
    confidence = generator.uniform(0.6, 1.0, 4000)
    dice = np.clip(1.5 * confidence - 0.6 + generator.normal(0, 0.05, 4000), 0, 1)
    confidence[:100] = math.nan  # without a mask
    known = ExpectedDice.fit(confidence, dice)
    assert known.slope == pytest.approx(1.5, abs=0.03) and known.offset == pytest.approx(-0.6, abs=0.03)
    assert known.images == 3900 and (known.low, known.high) == pytest.approx((0.6, 1.0), abs=0.01)
    assert known(0.8) == pytest.approx(0.6, abs=0.01)
    assert known(0.1) == known(0.6) == pytest.approx(0.3, abs=0.02)  # no line where no image was
    with pytest.raises(ValueError, match="19 images with an outline and a nodule; it takes 20"):
        ExpectedDice.fit(confidence[81:119], dice[81:119])
    for worse in (-dice, generator.permutation(dice)):
        with pytest.raises(ValueError, match="surer masks are not surely better"):
            ExpectedDice.fit(confidence[100:150], worse[100:150])
    with pytest.raises(ValueError, match="all masks are equally sure"):
        ExpectedDice.fit(np.full(30, 0.8), dice[100:130])


def test_each_piece_has_its_box_and_its_confidence():
    mask = np.zeros((10, 20), bool)
    mask[1:3, 2:4] = True
    mask[5:9, 10:16] = True
    probabilities = np.where(mask, 0.6, 0.1)
    probabilities[5:9, 10:16] = 0.9
    assert nodules_of(mask, probabilities) == [
        {"box": [10, 5, 16, 9], "area_share": 0.12, "confidence": 0.9},
        {"box": [2, 1, 4, 3], "area_share": 0.02, "confidence": 0.6},
    ]
    assert certainty(np.zeros((4, 4), bool), np.zeros((4, 4)), ExpectedDice(1.0, 0.0, 0.0, 1.0, 20)) == (
        {"confidence": None, "nodules": []},
        {},
    )


def test_nothing_is_expected_of_an_image_unlike_the_training_images():
    values = {"expected_dice": 0.8}
    shown = Shown({"confidence": 0.9, **values}, {}, [Finding(values)])
    like = with_familiarity(shown, {"familiarity": 0.5})
    assert like.entry["expected_dice"] == 0.8 and like.findings[0].values == {**values, "familiarity": 0.5}
    unlike = with_familiarity(shown, {"familiarity": 0.0, "warning": "unlike"})
    assert "expected_dice" not in unlike.entry and unlike.findings[0].values == {"familiarity": 0.0}


LINE = {"slope": 1.0, "offset": -0.1, "low": 0.5, "high": 1.0, "images": 20}


def square(height):
    """The first rows of 4 x 4 pixels, as a mask (1, 4, 4)."""
    mask = torch.zeros(1, 4, 4)
    mask[:, :height] = 1
    return mask


def test_an_evaluation_tells_how_well_confidence_tells_the_dice(tmp_path):
    (weights := tmp_path / "model.pt").write_bytes(b"weights")
    file_of(weights).write_text(json.dumps({"weights": digest_of(weights), **LINE}))
    probabilities = [torch.full((1, 4, 4), value) for value in (0.9, 0.7, 0.2, 0.9)]
    nodules = [square(3), square(1), square(2), square(0)]  # the third is missed, the last image shows none
    items = [
        {"pred": (value > 0.5).float(), "prob_map": value, "label": nodule}
        for value, nodule in zip(probabilities, nodules, strict=True)
    ]
    details = {}
    engine = SimpleNamespace(state=SimpleNamespace(output=items, metrics={}, metric_details=details))
    handler = MaskConfidence(weights=str(weights))
    handler._begin()
    handler._collect(engine)
    handler._tell(engine)
    confidence, dice = np.array([2 * 0.9 / 1.9, 2 * 0.7 / 1.7]), np.array([2 * 3 / 7, 2 * 1 / 5])
    assert details["confidence"][:2].numpy() == pytest.approx(confidence, abs=1e-4) and details["confidence"][2].isnan()
    assert engine.state.metrics == {
        "confidence_correlation": pytest.approx(1.0),
        "dice_least_certain": pytest.approx(0.4),
        "expected_dice": pytest.approx((confidence - 0.1).mean(), abs=1e-4),
        "expected_dice_error": pytest.approx(np.abs(confidence - 0.1 - dice).mean(), abs=1e-4),
    }
    for split, reports in (("test", "own"), ("train", "own"), ("validation", "wrong")):
        with pytest.raises(ValueError, match=r"^(split|reports): "):
            handler.require_own(split, reports)


def test_nothing_is_expected_where_the_report_is_doubted(tmp_path):
    shutil.copytree(ROOT / "bundles" / "akessfa" / "models", tmp_path / "models")
    for name in ("configs", "akessfa"):
        (tmp_path / name).symlink_to(ROOT / "bundles" / "akessfa" / name)
    (tmp_path / "models" / "familiarity.safetensors").unlink()  # which would call this image unlike
    write_synthetic(str(tmp_path / "drawn"), ThyroidOptions(reports=4, size=96, seed=5))
    image = np.asarray(Image.open(next((tmp_path / "drawn" / "images").iterdir())))
    weights, report = tmp_path / "models" / "model.pt", "A round nodule on the left."
    for limit, expected in ((-1e3, True), (1e3, False)):
        limits = {"weights": digest_of(weights), "limit": limit, "reports": 83}
        weights.with_name("report_fit.json").write_text(json.dumps(limits))
        result = predict.load(tmp_path)(image, report=report)
        assert (result.expected_dice is not None) == expected == ("expected Dice" in result.line())
        (finding,) = result.answer.shown.findings
        assert ("expected_dice" in finding.values) == expected
        assert result.nodules[0]["confidence"] > 0.5


def test_dicom_has_it(tmp_path):
    pixels = np.zeros((64, 64), np.uint8)
    mask = np.zeros((64, 64), bool)
    mask[10:20, 10:20] = True
    image = dicom_file(tmp_path / "image.dcm", pixels)
    finding = Finding({"expected_dice": 0.75, "familiarity": 0.5}, mask=mask)
    written = DicomResults(folder=tmp_path, network="akessfa").write_findings(str(image), [finding])
    assert any("Expected Dice of the outline" in str(read(tmp_path / name)) for name in written.values())


def take_any_line():
    """Of a few images, which show no sure order."""
    expected_dice.CHANCE, expected_dice.FEWEST = 1.0, 5


@pytest.mark.parametrize("bundle", ["akessfa", "clip_tnseg"])
def test_the_command_fits_what_inference_tells(bundle, tmp_path):
    shutil.copytree(ROOT / "bundles" / bundle / "models", tmp_path / "models")
    weights = tmp_path / "models" / "model.pt"
    write_synthetic(str(tmp_path / "drawn"), ThyroidOptions(reports=40, size=96, seed=5))
    files = [f"bundles/{bundle}/configs/{name}.json" for name in ("train", "evaluate")]
    given = ["--ckpt_dir", tmp_path / "models", "--dataset_dir", tmp_path / "drawn", "--output_dir", tmp_path / "out"]
    file_of(weights).write_text("{")
    inference = ["run", "--config_file", f"bundles/{bundle}/configs/inference.json", *given[:2], *given[4:]]
    image = next((tmp_path / "drawn" / "images").iterdir())
    damaged = monai_bundle(*inference, "--image", image)
    assert damaged.returncode != 0 and "is damaged; make it anew: --run_id fit_dice" in damaged.stderr
    fitting = ["run", "--run_id", "fit_dice", "--config_file", str(files), *given]
    refused = monai_bundle(*fitting)
    assert refused.returncode != 0 and "pass --split validation" in refused.stderr
    done = checked(monai_bundle(*fitting, "--split", "validation", before=take_any_line), 0)
    assert not (tmp_path / "models" / "earlier").exists()  # what was there was damaged
    known = read_expected_dice(str(weights))
    assert f"by {known.images} images held out" in done.stdout + done.stderr
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert "expected_dice" not in metrics and "confidence_correlation" in metrics
    (tmp_path / "models" / "familiarity.safetensors").unlink()  # which would call these images unlike
    checked(monai_bundle(*inference, "--image", image), 0)
    (entry,) = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert entry["expected_dice"] == pytest.approx(known(entry["confidence"]), abs=1e-4)
    assert "expected Dice" in (tmp_path / "out" / "index.html").read_text()
