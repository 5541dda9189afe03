"""Figures that the cards quote are those of ``benchmarks.reproduce``."""

import json
import re
import sys

import pytest

from benchmarks import reproduce
from tests.test_bundle_contract import BUNDLES, ROOT, checked
from tests.warm import monai_bundle

FIGURES = json.loads(reproduce.FILE.read_text(encoding="utf-8"))
CARDS = {bundle: (ROOT / f"bundles/{bundle}/docs/README.md").read_text(encoding="utf-8") for bundle in BUNDLES}


NUMBER = r"(?<![\w.])[+-]?\d+\.\d+(?! s\b| to \d+\.\d+ s\b)"  # of a time no figure is kept


def paragraphs(bundle):
    """Of what a card says of its performance and limits, with a row of a table for itself: each text, and its ids."""
    said = re.search(r"^## Performance$(.*?)^## Commands$", CARDS[bundle], flags=re.MULTILINE | re.DOTALL)[1]
    for text in re.split(r"\n\n|\n(?=\||- )", said):
        yield text, [id for id in re.findall(r"`([\w-]+)`", text) if id in FIGURES]


def values_of(ids):
    """Figures of ``ids``, and by how much those of the first differ from the same ones of the second, signed."""
    plain = [value for id in ids for value in FIGURES[id]["figures"].values()]
    first, second = (FIGURES[id]["figures"] for id in ids) if len(ids) == 2 else ({}, {})
    return plain, [first[name] - second[name] for name in first.keys() & second.keys()]


@pytest.mark.parametrize("bundle", BUNDLES)
def test_every_figure_of_a_card_is_that_of_the_id_beside_it(bundle):
    """Every decimal number, that is, but intervals, is one of the id's figures, to its last digit."""
    for text, ids in paragraphs(bundle):
        plain, gains = values_of(ids)
        for number in re.findall(NUMBER, re.sub(r"\[.*?\]", "", text)):
            half = 0.501 * 10.0 ** -len(number.partition(".")[2])
            values = gains if number[0] in "+-" else plain
            assert any(abs(value - float(number)) <= half for value in values), f"{number}: {text}"


@pytest.mark.parametrize("id", FIGURES)
def test_every_figure_that_can_be_computed_anew_is_quoted(id):
    assert any(id in ids for _, ids in paragraphs(FIGURES[id]["bundle"]))


def test_every_card_has_a_row_that_can_be_computed_anew():
    assert {entry["bundle"] for entry in FIGURES.values()} == set(BUNDLES)


def test_differences_beyond_the_noise_are_told():
    quoted = {"dice": 0.8, "hd95": 12.0, "nsd": 0.9}
    assert not list(reproduce.differences(quoted, {"dice": 0.804, "hd95": 12.05, "nsd": 0.9}))
    told = list(reproduce.differences(quoted, {"dice": 0.81, "hd95": 12.1, "nsd": None}))
    assert [line.partition(":")[0] for line in told] == ["dice", "hd95", "nsd"] and "undefined measured" in told[2]


def test_what_takes_real_images_is_left_out_without_them(monkeypatch, tmp_path, caplog):
    monkeypatch.setattr(sys, "argv", ["reproduce", "--only", "hfcn-ddti", "--out", str(tmp_path)])
    with caplog.at_level("INFO"):
        reproduce.main()
    assert "hfcn-ddti: left out, it takes --data" in caplog.text and not list(tmp_path.iterdir())


def test_a_difference_ends_with_an_error(monkeypatch, tmp_path):
    monkeypatch.setattr(reproduce, "run", lambda *_: None)
    (tmp_path / "sgf-drawn").mkdir()
    metrics = {**FIGURES["sgf-drawn"]["figures"], "bleu_4": 0.1}
    (tmp_path / "sgf-drawn" / "metrics.json").write_text(json.dumps(metrics))
    monkeypatch.setattr(sys, "argv", ["reproduce", "--only", "sgf-drawn", "--out", str(tmp_path)])
    with pytest.raises(SystemExit, match="1 of the evaluations differ"):
        reproduce.main()


def test_the_figures_on_drawn_data_are_as_quoted(monkeypatch, tmp_path, caplog):
    """What takes no real images: drawn anew, evaluated with the weights that come along."""

    def run(bundle, configs, *overrides):
        files = str([f"bundles/{bundle}/configs/{name}" for name in configs])
        checked(monai_bundle("run", "--config_file", files, *overrides), 0)

    monkeypatch.setattr(reproduce, "run", run)
    monkeypatch.setattr(sys, "argv", ["reproduce", "--out", str(tmp_path)])
    with caplog.at_level("INFO"):
        reproduce.main()
    drawn = {id for id, entry in FIGURES.items() if entry["data"] is None}
    told = {record.getMessage().partition(":")[0] for record in caplog.records if "as quoted" in record.getMessage()}
    assert told == drawn and len(drawn) == 3
