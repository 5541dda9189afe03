"""Whether sentences are right, how well that is known beforehand, and what is said of doubtful ones."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from scipy.special import expit, logit

from benchmarks.release import keep_numbers
from common import predict
from common.cli.trained import digest_of
from common.engine.sentence_calibration import (
    SentenceCalibration,
    SentenceMetrics,
    file_of,
    mark_doubtful,
    read_calibration,
)
from common.metrics.sentence_truth import claims_of, is_right, said_of
from common.results.remarks import remarks
from common.text.tokenizer import ReportTokenizer
from tests.test_bundle_contract import checked
from tests.warm import ROOT, monai_bundle

CHEST = "There is a small left pleural effusion. No pneumothorax. The heart may be enlarged."


@pytest.mark.parametrize(
    ("sentence", "right"),
    [
        ("Pleural effusion is seen.", True),
        ("No pleural effusion.", False),
        ("No pneumothorax.", True),
        ("There is a pneumothorax.", False),
        ("There is cardiomegaly.", True),  # which the reference thinks possible
        ("There is no edema.", True),  # of which the reference does not speak
        ("There is edema.", False),
        ("No pneumothorax or pleural effusion.", False),
        ("Comparison is made.", None),
    ],
)
def test_a_statement_is_borne_by_the_reference_and_a_denial_not_contradicted(sentence, right):
    assert is_right(claims_of(sentence, "chest"), said_of(CHEST, "chest")) is right


@pytest.mark.parametrize(
    ("sentence", "right"),
    [("左叶见实性结节。", True), ("未见结节。", False), ("未见肿大淋巴结。", True), ("见肿大淋巴结。", False)],
)
def test_chinese_of_the_thyroid(sentence, right):
    reference = "甲状腺左叶见一低回声实性结节。颈部未见肿大淋巴结。"
    assert is_right(claims_of(sentence, "thyroid"), said_of(reference, "thyroid")) is right


@pytest.mark.parametrize(
    ("sentence", "reference", "right"),
    [
        ("No nodule in the left lobe.", "The thyroid is normal in size. No nodule is seen.", True),
        ("右叶未见结节。", "甲状腺大小形态正常，未见结节。", True),
        ("峡部未见异常回声。", "甲状腺大小形态正常，未见结节。", None),
        ("No nodule in the left lobe.", "There is a nodule in the left lobe.", False),
        ("There is a nodule in the left lobe.", "A nodule in the left lobe. No enlarged lymph node.", True),
        ("There is a nodule in the right lobe.", "A nodule in the left lobe. No enlarged lymph node.", False),
    ],
)
def test_the_place_of_a_denial_need_not_be_named(sentence, reference, right):
    assert is_right(claims_of(sentence, "thyroid"), said_of(reference, "thyroid")) is right


def sentences(slope=2.0, offset=-1.0, count=4000):
    rng = np.random.default_rng(0)
    prob = rng.uniform(0.3, 0.99, count)
    return (rng.random(count) < expit(slope * logit(prob) + offset)).astype(float), prob


def test_the_fit_finds_how_often_sentences_are_right():
    right, prob = sentences()
    calibration = SentenceCalibration.fit(right, prob)
    assert calibration.slope == pytest.approx(2, abs=0.3) and calibration.offset == pytest.approx(-1, abs=0.3)
    assert calibration(prob).mean() == pytest.approx(right.mean(), abs=0.01)
    assert calibration.sentences == 4000 and calibration.right == right.sum()


@pytest.mark.parametrize(
    ("right", "prob", "message"),
    [
        (np.ones(30), np.linspace(0.1, 0.9, 30), "30 right and 0 wrong sentences; it takes 5 of each"),
        (np.repeat([1.0, 0.0], 15), np.linspace(0.1, 0.9, 30), "no more often right"),
    ],
)
def test_what_cannot_be_fitted_is_refused(right, prob, message):
    with pytest.raises(ValueError, match=message):
        SentenceCalibration.fit(right, prob)


def test_doubtful_sentences_are_told():
    entry = {"sentences": [{"text": "no effusion.", "probability": 0.9}, {"text": "mass.", "probability": 0.4}]}
    mark_doubtful(entry, None)
    assert "right" not in entry["sentences"][0]
    mark_doubtful(entry, SentenceCalibration(1.0, 0.0, 100, 70))
    assert [sentence.get("doubtful", False) for sentence in entry["sentences"]] == [False, True]
    assert entry["sentences"][1]["right"] == pytest.approx(0.4, abs=1e-3)
    assert remarks(entry) == ['"mass.": doubtful: 40% of such sentences are right.']


def test_the_file_belongs_to_its_weights(tmp_path, caplog):
    weights = tmp_path / "model.pt"
    weights.write_bytes(b"weights")
    assert read_calibration(str(weights)) is None
    known = {"weights": digest_of(weights), "slope": 1.0, "offset": 0.5, "sentences": 9, "right": 5}
    file_of(weights).write_text(json.dumps(known))
    assert read_calibration(str(weights)) == (1.0, 0.5, 9, 5)
    other = tmp_path / "other" / "model.pt"
    other.parent.mkdir()
    other.write_bytes(b"in half")
    keep_numbers(file_of(weights), weights, other)
    assert read_calibration(str(other)) == (1.0, 0.5, 9, 5)
    weights.write_bytes(b"of another training")
    assert read_calibration(str(weights)) is None and "belongs to other weights" in caplog.text
    keep_numbers(file_of(weights), weights, other)
    assert not file_of(other).exists()
    for damaged in ({"slope": -1.0}, {"offset": None}, {"more": 1.0}):
        file_of(weights).write_text(json.dumps(known | damaged))
        with pytest.raises(ValueError, match="is damaged; make it anew: --run_id fit_sentences"):
            read_calibration(str(weights))


def test_metrics_count_sentences_that_say_something(tmp_path):
    generated = "a pleural effusion is seen . no pneumothorax . there is edema . the study is done ."
    tokenizer = ReportTokenizer.of_words([*"abcdefgh", *dict.fromkeys(generated.split())])
    ids = torch.tensor([token.id for token in tokenizer.encode(generated)])
    item = {"ids": ids, "log_probs": torch.full(ids.shape, 0.8).log(), "report": CHEST}
    engine = SimpleNamespace(state=SimpleNamespace(output=[item], metrics={}))
    metrics = SentenceMetrics(tokenizer=tokenizer, weights=str(tmp_path / "model.pt"), organ="chest")
    metrics._collect(engine)
    metrics._tell(engine)
    assert engine.state.metrics["sentences_right"] == pytest.approx(2 / 3)
    assert engine.state.metrics["sentences_right_least_certain"] == pytest.approx(2 / 3)  # all are equals
    assert engine.state.metrics["sentence_error"] == pytest.approx(0.8 - 2 / 3, abs=1e-3)
    assert "calibrated_sentence_error" not in engine.state.metrics
    for split in ("test", "train"):
        with pytest.raises(ValueError, match="pass --split validation"):
            metrics.require_own(split)


def test_the_command_fits_and_inference_tells_it(tmp_path):
    shutil.copytree(ROOT / "bundles" / "d2rnet" / "models", tmp_path / "models")
    file_of(tmp_path / "models" / "model.pt").unlink()
    files = "['bundles/d2rnet/configs/train.json','bundles/d2rnet/configs/evaluate.json']"
    given = ("--run_id", "fit_sentences", "--config_file", files, "--ckpt_dir", tmp_path / "models")
    small = ("--synthetic_dir", tmp_path / "drawn", "--synthetic#studies", 700, "--output_dir", tmp_path / "out")
    refused = monai_bundle("run", *given, *small)
    assert refused.returncode != 0 and "pass --split validation" in refused.stderr
    done = checked(monai_bundle("run", *given, *small, "--split", "validation"), 0)
    known = read_calibration(str(tmp_path / "models" / "model.pt"))
    assert f"sentence calibration: {known.sentences} sentences, {known.right} right" in done.stdout
    (tmp_path / "configs").symlink_to(ROOT / "bundles" / "d2rnet" / "configs")
    (tmp_path / "d2rnet").symlink_to(ROOT / "bundles" / "d2rnet" / "d2rnet")
    image = next((tmp_path / "drawn").rglob("*.png"))
    for sentence in predict.load(tmp_path)(str(image)).sentences:
        assert sentence.right == pytest.approx(known(sentence.probability), abs=1e-3)
