"""Reports that may be another patient's: the limit, the file that holds it, and where a doubt is told."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from akessfa.report_fit import DOUBT, ReportFit, ReportFits, file_of, read_report_fit
from common import predict
from common.cli.trained import digest_of
from common.synthetic.thyroid import ThyroidOptions, write_synthetic
from tests.test_bundle_contract import checked
from tests.warm import ROOT, monai_bundle


def test_one_in_twenty_own_reports_lies_below_the_limit():
    known = ReportFit.of(np.random.default_rng(0).normal(3, 1, 2000))
    others = np.random.default_rng(1).normal(3, 1, 2000)
    assert np.mean([known.doubts(fit) for fit in others]) == pytest.approx(0.05, abs=0.01)
    with pytest.raises(ValueError, match="19 images with a report; it takes 20"):
        ReportFit.of(np.zeros(19))


def test_the_file_belongs_to_its_weights(tmp_path, caplog):
    weights = tmp_path / "model.pt"
    weights.write_bytes(b"weights")
    assert read_report_fit(str(weights)) is None
    known = {"weights": digest_of(weights), "limit": 0.5, "reports": 83}
    file_of(weights).write_text(json.dumps(known))
    assert read_report_fit(str(weights)) == (0.5, 83)
    for damaged in ({"limit": None}, {"more": 1.0}):
        file_of(weights).write_text(json.dumps(known | damaged))
        with pytest.raises(ValueError, match="is damaged; make it anew: --run_id fit_reports"):
            read_report_fit(str(weights))
    file_of(weights).write_text(json.dumps(known))
    weights.write_bytes(b"of another training")
    assert read_report_fit(str(weights)) is None and "belongs to other weights" in caplog.text


def test_an_evaluation_counts_images_with_a_report(tmp_path):
    (weights := tmp_path / "model.pt").write_bytes(b"weights")
    file_of(weights).write_text(json.dumps({"weights": digest_of(weights), "limit": 1.0, "reports": 83}))
    items = [{"fit": torch.tensor(fit), "is_word": torch.tensor([word])} for fit, word in ((0, 1), (3, 1), (-9, 0))]
    engine = SimpleNamespace(state=SimpleNamespace(output=items, metrics={}))
    handler = ReportFits(weights=str(weights))
    handler._begin()
    handler._collect(engine)
    handler._tell(engine)
    assert engine.state.metrics == {"report_fit": 1.5, "report_doubted": 0.5}
    for split, reports in (("test", "own"), ("train", "own"), ("validation", "wrong")):
        with pytest.raises(ValueError, match=r"^(split|reports): "):
            handler.require_own(split, reports)


def test_the_command_fits_and_every_answer_tells_a_doubt(tmp_path):
    shutil.copytree(ROOT / "bundles" / "akessfa" / "models", tmp_path / "models")
    weights = tmp_path / "models" / "model.pt"
    write_synthetic(str(tmp_path / "drawn"), ThyroidOptions(reports=60, size=96, seed=5))
    files = "['bundles/akessfa/configs/train.json','bundles/akessfa/configs/evaluate.json']"
    given = ["--run_id", "fit_reports", "--config_file", files, "--ckpt_dir", tmp_path / "models",
             "--dataset_dir", tmp_path / "drawn", "--output_dir", tmp_path / "out"]  # fmt: skip
    file_of(weights).write_text("{")
    evaluation = monai_bundle("run", *given[2:])
    assert evaluation.returncode != 0 and "is damaged; make it anew: --run_id fit_reports" in evaluation.stderr
    refused = monai_bundle("run", *given)
    assert refused.returncode != 0 and "pass --split validation" in refused.stderr
    assert file_of(weights).read_text() == "{"  # which the command that its error names mends
    done = checked(monai_bundle("run", *given, "--split", "validation"), 0)
    known = read_report_fit(str(weights))
    assert f"report fit: limit {known.limit:.2f}, by {known.reports} reports held out" in done.stdout + done.stderr
    image = np.asarray(Image.open(next((tmp_path / "drawn" / "images").iterdir())))
    for name in ("configs", "akessfa"):
        (tmp_path / name).symlink_to(ROOT / "bundles" / "akessfa" / name)
    for limit, doubted in ((-1e3, False), (1e3, True)):
        file_of(weights).write_text(json.dumps({"weights": digest_of(weights), "limit": limit, "reports": 83}))
        result = predict.load(tmp_path)(image, report="A round nodule on the left.")
        assert (result.report_doubt == DOUBT) == doubted == (DOUBT in result.line())
        assert [finding.doubted for finding in result.answer.shown.findings] == [doubted]
        page = (result.save(tmp_path / f"page_{doubted}") / "index.html").read_text()
        assert ("less well than 19 of 20" in page) == doubted
