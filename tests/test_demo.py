"""The demonstration, whole: what a newcomer runs first, and the trained half of the tests against a fake game."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    out = tmp_path_factory.mktemp("demo") / "akessfa"
    environment = {**os.environ, "OMP_NUM_THREADS": str(os.cpu_count())}
    command = [sys.executable, "-m", "benchmarks.demo", "--out", str(out)]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=1500)
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
    assert "data:image/png;base64" in page and "http" not in page
