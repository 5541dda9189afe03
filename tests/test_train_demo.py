"""The demonstration, whole: what a newcomer runs first, and the trained half of the tests against a fake game."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import DataLoader, Dataset
from monai.metrics import DiceMetric
from PIL import Image

from akessfa.data import read_cases, validation_transforms
from akessfa.keyword_metrics import KeywordCase, keyword_metrics
from akessfa.phases import Phase
from akessfa.steps import TENSORS, TEXT, word_scores
from common.engine.steps import to_device
from common.text.tokenizer import ReportTokenizer
from tests.test_akessfa_game import step
from tests.test_bundle_contract import checked
from tests.warm import Running

ROOT = Path(__file__).resolve().parents[1]


def commands_in_forks():
    """Let the demonstration's commands, ``python -m monai.bundle ...``, run in forks of its process."""

    def run(command, *, check):
        assert check and command[0] == sys.executable
        checked(Running(command[command.index("monai.bundle") + 1 :]).wait(timeout=1500), 0)

    subprocess.run = run


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "akessfa"
    demonstration = Running(["--out", out], module="benchmarks.train_demo", before=commands_in_forks)
    checked(demonstration.wait(timeout=3000), 0)
    return out, json.loads((out / "metrics.json").read_text())


@pytest.mark.slow
def test_the_report_is_what_makes_it_work(demo):
    _, metrics = demo
    assert metrics["dice"] >= 0.75
    assert metrics["dice_without_report"] <= metrics["dice"] - 0.1


@pytest.mark.slow
def test_an_empty_report_is_about_the_image_alone_and_not_nothing(demo):
    assert demo[1]["dice_without_report"] > 0.2


@pytest.mark.slow
def test_keywords_are_this_images_and_not_the_reports(demo):
    _, metrics = demo
    assert metrics["generator_hit"] >= 0.6 > 2 * metrics["generator_chance"] * 0.99
    assert metrics["generator_auc_content"] >= 0.7
    assert metrics["generator_same"] <= 0.4  # an image-blind generator gives 1
    assert 0.05 < metrics["mean_keyword"] < 0.6 and metrics["chosen_share"] > 0.01


@pytest.mark.slow
def test_removing_keywords_costs_more_than_removing_other_attribute_words(demo):
    _, metrics = demo
    assert metrics["dice_without_others"] - metrics["dice_without_keywords"] >= 0.2


@pytest.mark.slow
def test_its_files_are_there_and_the_page_needs_no_network(demo):
    out, _ = demo
    (prediction,) = json.loads((out / "predictions.json").read_text())
    assert prediction["sentence"] in prediction["report"] and prediction["keywords"]
    assert Image.open(out / "overlay.png").width > 600
    page = (out / "index.html").read_text()
    assert "data:image/jpeg;base64" in page and "://" not in page


@pytest.fixture(scope="module")
def trained(demo):
    """The demo's network, and some 80 unseen images with their reports in batches of 32."""
    out, _ = demo
    parser = ConfigParser(ConfigParser.load_config_file(ROOT / "bundles/akessfa/configs/inference.json"))
    parser["bundle_root"] = str(ROOT / "bundles/akessfa")
    network = parser.get_parsed_content("network_def")
    network.load_state_dict(torch.load(out / "models" / "model.pt", weights_only=True))
    tokenizer = ReportTokenizer.load(out / "models" / "report_tokenizer.json")
    cases = read_cases(root=str(out.parent / "synthetic"), split="test")[:96]
    dataset = Dataset(cases, validation_transforms(tokenizer=tokenizer, size=64, max_length=128))
    return network, list(DataLoader(dataset, batch_size=32))


def score(network, batches, *, shift=0):
    """Keyword metrics of the generator; ``shift`` gives each report the image of a case so many places on."""
    items = []
    for batch in batches:
        data = to_device(batch, torch.device("cpu"), TENSORS)
        data["image"] = data["image"].roll(shift, 0)
        with torch.no_grad():
            segmenter = network.eval().segmenter
            evidence = segmenter.examine(segmenter.encode_image(data["image"]), *(data[key] for key in TEXT))
            scores = word_scores(network, data, evidence)["generator"].numpy()
        for row, case in enumerate(batch["case"]):
            word = batch["attention_mask"][row].numpy() > 0
            flags = {name: batch[name][row].numpy()[word] > 0 for name in ("about_image", "about_nodule", "attribute")}
            sentence = batch["sentence_ids"][row].numpy()[word]
            items.append(KeywordCase(case, sentence, **flags, scores={"generator": scores[row][word]}))
    return keyword_metrics(items, "generator")


@pytest.mark.slow
def test_with_another_patients_image_the_keywords_fall_to_chance(trained):
    network, batches = trained
    own, shuffled = score(network, batches), score(network, batches, shift=9)
    assert own["hit"] > shuffled["hit"] + 0.25
    assert abs(shuffled["hit"] - shuffled["chance"]) < 0.2  # four standard errors of 80 images


@pytest.mark.slow
def test_another_patients_report_lowers_dice(trained):
    network, batches = trained
    dices = []
    for shift in (0, 9):
        metric = DiceMetric()
        for batch in batches:
            data = to_device(batch, torch.device("cpu"), TENSORS) | {key: batch[key].roll(shift, 0) for key in TEXT}
            with torch.no_grad():
                logits = network.eval()(data["image"], *(data[key] for key in TEXT))
            metric((logits > 0).float(), data["label"])
        dices.append(metric.aggregate().item())
    assert dices[0] > 0.7 and dices[1] < dices[0] - 0.3


@pytest.mark.slow
def test_more_of_the_game_does_not_unlearn_the_keywords(trained):
    network, batches = trained
    before = score(network, batches)["auc_content"]
    for _ in range(2):
        for batch in batches:
            optimizer = torch.optim.AdamW(network.generator.parameters(), lr=1e-4)
            terms = step(network, batch, Phase.GAME, generator_optimizer=optimizer, rate=1e-5)[0]["terms"]
            assert all(np.isfinite(value) for value in terms.values())
    assert score(network, batches)["auc_content"] >= before - 0.05
