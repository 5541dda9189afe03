"""Findings that reports state: labels, weights of words, and a decoder that writes what it is told."""

import json
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from d2rnet.report.network import D2RNet
from d2rnet.report.visual import VisualEncoder
from ignite.engine import Engine
from sgf.network import SGF

from common.engine.stated_findings import (
    MatchPrevalence,
    StatedFindings,
    describe_findings,
    finding_loss,
    findings_of,
    read_names,
    stated_in,
)
from common.engine.steps import descend, report_loss
from common.nn.finding_prompts import FindingPrompts
from common.results.case_sections import facts
from common.text.tokenizer import ReportTokenizer
from common.transforms.reports import TokenizeTargetd
from tests.test_bundle_contract import ROOT, TINY, checked, flags
from tests.warm import monai_bundle

CLEAR, LARGE, FLUID = "The lungs are clear.", "There is cardiomegaly.", "There may be a small left pleural effusion."
REPORTS = [CLEAR] * 5 + [f"{CLEAR} {LARGE}"] * 3 + [f"{LARGE} {FLUID}", f"No pneumothorax. {FLUID}"]
STUDIES = [{"report": report} for report in REPORTS]
TOKENIZER = ReportTokenizer.fit(REPORTS)
SIZES = {"vocab_size": 64, "depth": 18, "width": 8, "dim": 16, "hidden": 32, "heads": 4, "layers": 1, "max_length": 20}


@pytest.fixture
def stated():
    return StatedFindings(studies=STUDIES, count=2, tokenizer=TOKENIZER, max_length=30)


def test_findings_are_those_in_which_the_reports_differ_most(stated, tmp_path):
    assert stated.names == ["Cardiomegaly", "Pleural Effusion"]
    np.testing.assert_allclose(stated.prevalence, [0.4, 0.2])
    assert stated.saver(str(tmp_path))() == [tmp_path / "findings.json"]
    assert read_names(str(tmp_path / "model.pt")) == stated.names


def test_places_and_looks_are_no_findings():
    text = "In the left lobe there is a solid nodule. The margin is smooth. No enlarged lymph node is seen."
    assert stated_in(text, "thyroid") == {"nodule"}
    assert stated_in("左叶见低回声结节，边界清。未见肿大淋巴结。", "thyroid") == {"nodule"}


def test_names_that_are_lost_are_said(tmp_path):
    (tmp_path / "model.pt").touch()
    (tmp_path / "model.json").write_text('{"settings": {"findings": 2}, "files": {}}')
    for content in (None, "{}", '["Edema"]'):
        if content:
            (tmp_path / "findings.json").write_text(content)
        with pytest.raises(ValueError, match=r"findings: .*findings.json' does not name the 2 findings of the network"):
            read_names(str(tmp_path / "model.pt"))


def test_a_part_of_many_reports_is_enough(monkeypatch):
    monkeypatch.setattr("common.engine.stated_findings.ENOUGH", 5)
    half = StatedFindings(studies=STUDIES, count=1, tokenizer=TOKENIZER, max_length=30)
    assert half.names == ["Cardiomegaly"] and half.prevalence.tolist() == [2 / 5]  # of every second one


def test_none_are_asked_for(tmp_path):
    (tmp_path / "findings.json").write_text('["of an earlier training"]')
    none = StatedFindings(studies=STUDIES, count=0, tokenizer=TOKENIZER, max_length=30)
    study = none({"report": REPORTS[5]})
    assert study["stated"].shape == (0,) and (study["word_weights"] == 1).all()
    assert none.saver(str(tmp_path))() == [] and not (tmp_path / "findings.json").exists()
    assert read_names(str(tmp_path / "model.pt")) == []


@pytest.mark.parametrize("reports", [["Nothing of this is known."], [f"{CLEAR} {LARGE}"] * 3])
def test_reports_that_do_not_differ_are_refused(reports):
    with pytest.raises(ValueError, match=r"findings: 1, but the training reports differ in 0 \(\)"):
        StatedFindings(studies=[{"report": report} for report in reports], count=1, tokenizer=TOKENIZER, max_length=9)


@pytest.mark.parametrize("max_length", [30, 10])
def test_the_words_of_a_stated_finding_weigh_more(max_length):
    stated = StatedFindings(studies=STUDIES, count=2, tokenizer=TOKENIZER, max_length=max_length, emphasis=3.0)
    study = TokenizeTargetd(TOKENIZER, max_length=max_length)(stated({"report": f"{CLEAR} {LARGE} No pneumothorax."}))
    assert study["stated"].tolist() == [1.0, 0.0] and study["word_weights"].shape == study["target_ids"].shape
    heavy = study["target_ids"][study["word_weights"] == 3.0].tolist()
    assert TOKENIZER.decode(heavy) == "there is cardiomegaly."
    assert set(study["word_weights"].tolist()) == {1.0, 3.0}


def test_a_weighted_word_counts_as_often():
    log_probs = torch.randn(1, 3, 5, generator=torch.Generator().manual_seed(0)).log_softmax(2)
    ids = torch.tensor([[1, 2, 3]])
    each = [float(report_loss(log_probs, ids, torch.eye(3)[None, k])) for k in range(3)]
    found = report_loss(log_probs, ids, torch.tensor([[1.0, 4.0, 1.0]]))
    torch.testing.assert_close(float(found), (each[0] + 4 * each[1] + each[2]) / 6)


def test_the_loss_has_no_term_without_findings():
    assert finding_loss(torch.zeros(2, 0), torch.zeros(2, 0)) == {}
    found = finding_loss(torch.zeros(2, 3), torch.ones(2, 3))
    torch.testing.assert_close(found["findings"], torch.tensor(2.0).log())


def test_a_term_without_a_weight_is_said():
    with pytest.raises(ValueError, match=r"loss_weights: none for findings; add it, 0 leaves the term out"):
        descend(None, {"findings": 1}, weights={"report": 1.0}, parameters=[], clip_value=1.0)


def test_thresholds_find_as_often_as_reports_state(stated):
    torch.manual_seed(0)
    network = SimpleNamespace(prompts=FindingPrompts(findings=2, features=3, dim=4).eval(), eval=lambda: None)
    batches = [{"x": torch.randn(10, 3)} for _ in range(5)]
    engine = Engine(lambda *_: None)
    engine.data_loader, engine.state.device = batches, torch.device("cpu")
    handler = MatchPrevalence(network=network, stated=stated, logits_of=lambda batch, _: network.prompts(batch["x"]))
    handler.attach(engine)
    assert network.prompts.thresholds.sigmoid().tolist() == pytest.approx([0.4, 0.2])
    engine.run([0])
    found = torch.cat([network.prompts.found(network.prompts(batch["x"])) for batch in batches])
    assert found.float().mean(0).tolist() == pytest.approx([0.4, 0.2])


def sgf(findings):
    torch.manual_seed(0)
    return SGF(**SIZES, clusters=3, views=1, findings=findings)


def d2rnet(findings):
    torch.manual_seed(0)
    visual = VisualEncoder(depth=18, resnet_width=8, region_channels=4, region_widths=(4, 8, 8, 8, 16))
    sizes = {name: size for name, size in SIZES.items() if name not in ("depth", "width")}
    return D2RNet(visual=visual, **sizes, slot_heads=4, findings=findings, beams=1, token_norm=True)


@pytest.mark.parametrize("make", [sgf, d2rnet])
def test_what_is_found_is_written_whatever_the_image_shows(make):
    network = make(2)
    reports = [CLEAR, LARGE, FLUID, f"{LARGE} {FLUID}"]
    classes = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    tokenize = TokenizeTargetd(TOKENIZER, max_length=16)
    ids = [tokenize({"report": report}) for report in reports]
    inputs, targets = (torch.stack([each[name] for each in ids]) for name in ("input_ids", "target_ids"))
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    image = torch.randn(4, 1, 3, 64, 64)
    for _ in range(80):
        noise = image[torch.randperm(4)]
        forced = network.train().teacher_forcing(noise, inputs, stated=classes)
        optimizer.zero_grad()
        report_loss(forced.log_probs, targets, targets != 0).backward()
        optimizer.step()
    with torch.no_grad():
        network.eval().prompts.head[1].weight.zero_()
        for report, there in zip(reports, classes, strict=True):
            network.prompts.thresholds.copy_(network.prompts.head[1].bias + 0.5 - there)
            written = [TOKENIZER.decode(row) for row in network.generate(image).ids[:, 0].tolist()]
            assert written == [TOKENIZER.decode([t.id for t in TOKENIZER.encode(report)])] * 4
        scripted = torch.jit.script(network)
        assert torch.equal(scripted.generate(image).ids, network.generate(image).ids)


@pytest.mark.parametrize("make", [sgf, d2rnet])
def test_without_findings_nothing_is_found(make):
    network = make(0)
    assert network.prompts is None and not any("prompts" in name for name in network.state_dict())
    encoded = network.eval().encode(torch.randn(2, 1, 3, 64, 64))
    assert encoded.findings.shape == (2, 0) and findings_of(network.prompts, encoded.findings) == {}
    assert describe_findings({}, []) == {}


def test_findings_of_an_entry():
    prompts = FindingPrompts(findings=2, features=1, dim=4)
    prompts.thresholds.copy_(torch.tensor([0.0, -2.0]))
    batch = findings_of(prompts, torch.tensor([[-1.0, -1.0]]))
    item = {name: value[0] for name, value in batch.items()}
    entry = describe_findings(item, ["Edema", "Fracture"])
    assert entry["findings"] == [
        {"name": "Edema", "probability": 0.2689, "threshold": 0.5, "found": False},
        {"name": "Fracture", "probability": 0.2689, "threshold": 0.1192, "found": True},
    ]
    assert facts(entry) == "found in the image: Fracture 0.27"
    assert [finding["name"] for finding in describe_findings(item, [])["findings"]] == ["finding 1", "finding 2"]


@pytest.mark.parametrize("bundle", ["sgf", "d2rnet"])
def test_a_training_and_what_comes_after_it(bundle, tmp_path):
    sizes, data = TINY[bundle]["network"], TINY[bundle]["data"]
    config = partial("bundles/{}/configs/{}.json".format, bundle)
    places = {"ckpt_dir": tmp_path / "models", "output_dir": tmp_path / "out", "synthetic_dir": tmp_path / "data"}
    trained = flags(places, sizes, data, TINY[bundle]["train"], {"findings": 2, "epochs": 1})
    checked(monai_bundle("run", "--config_file", config("train"), *trained), 0)
    names = json.loads((tmp_path / "models" / "findings.json").read_text())
    assert len(names) == 2
    assert json.loads((tmp_path / "models" / "model.json").read_text())["settings"]["findings"] == 2
    both = str([config("train"), config("evaluate")])
    checked(monai_bundle("run", "--config_file", both, *flags(places, sizes, data)), 0)
    assert (tmp_path / "out" / "metrics.json").is_file()
    image = next((tmp_path / "data").rglob("*.png"))
    alone = {"image": image, "ckpt_dir": places["ckpt_dir"], "output_dir": tmp_path / "new"}
    if bundle == "d2rnet":  # the detector that comes along
        alone |= {name: ROOT / "bundles/d2rnet/models" / file for name, file in
                  (("detector_weights", "detector.pt"), ("detector_settings", "detector_settings.json"))}  # fmt: skip
    checked(monai_bundle("run", "--config_file", config("inference"), *flags(alone)), 0)
    (entry,) = json.loads((tmp_path / "new" / "predictions.json").read_text())
    assert [finding["name"] for finding in entry["findings"]] == names
    again = flags(places, sizes, data, TINY[bundle]["train"], {"epochs": 1})
    checked(monai_bundle("run", "--config_file", config("train"), *again), 0)  # without findings, into the same folder
    assert not (tmp_path / "models" / "findings.json").exists()
    (earlier,) = (tmp_path / "models" / "earlier").iterdir()
    assert json.loads((earlier / "findings.json").read_text()) == names


def test_a_resumed_training_is_the_same(tmp_path):
    sizes = flags(TINY["sgf"]["network"], TINY["sgf"]["data"], {"synthetic_dir": tmp_path / "data"})
    sizes += flags(TINY["sgf"]["train"] | {"findings": 2})
    for folder, *runs in (("whole", ["--epochs", 2]), ("parts", ["--epochs", 1], ["--epochs", 2, "--resume", "true"])):
        for last in runs:
            given = [*sizes, "--ckpt_dir", tmp_path / folder, *last]
            checked(monai_bundle("run", "--config_file", "bundles/sgf/configs/train.json", *given), 0)
    states = [
        torch.load(tmp_path / name / "checkpoint.pt", weights_only=True)["network"] for name in ("whole", "parts")
    ]
    assert states[0]["prompts.thresholds"].abs().sum() > 0
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name]), name
