"""The example folders are read as what they stand for, and docs/data.md draws them as they are."""

import logging
import re

import pytest

from common.cli.check import main as check
from common.datasets.boxes import LABELS, read_boxes
from common.synthetic import examples
from tests.test_documentation import ROOT

BUNDLES = {
    "table": "akessfa clip_tnseg hfcn", "ratn": "akessfa hfcn", "ddti-xml": "akessfa hfcn", "ddti-masks": "hfcn",
    "tn3k": "clip_tnseg", "tg3k": "akessfa", "phrasecut": "clip_tnseg", "table-studies": "sgf", "sgf": "sgf",
    "table-boxes": "d2rnet", "r2gen": "d2rnet", "mimic": "d2rnet",
}  # fmt: skip
DETECTOR = ("coco", "vindr", "r2gen")
TREE = re.compile(r"```\n([\w-]+)/\n((?:  \S+\n)+)```")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("examples") / "new"
    examples.main([str(root)])
    return root


def test_every_layout_is_there(folder):
    assert {path.name for path in folder.iterdir()} == {*BUNDLES, *DETECTOR}


@pytest.mark.parametrize(("layout", "bundles"), BUNDLES.items())
def test_a_bundle_can_train_on_it(folder, layout, bundles, caplog):
    caplog.set_level(logging.INFO)
    for bundle in bundles.split():
        assert check([str(folder / layout), "--bundle", bundle]) == 0, caplog.text


@pytest.mark.parametrize("layout", DETECTOR)
def test_the_detector_reads_its_boxes(folder, layout):
    for split in ("train", "val", "test"):
        assert any(len(case["boxes"]) for case in read_boxes(str(folder / layout), split, classes=LABELS))


def test_the_page_draws_them_as_they_are(folder):
    trees = TREE.findall((ROOT / "docs" / "data.md").read_text(encoding="utf-8"))
    assert {name for name, _ in trees} == {*BUNDLES, *DETECTOR} - {"table-studies", "table-boxes"}
    missing = [
        f"{name}/{path}" for name, paths in trees for path in paths.split() if not (folder / name / path).is_file()
    ]
    assert not missing


def test_nothing_is_overwritten(folder):
    with pytest.raises(SystemExit, match="is there already"):
        examples.main([str(folder)])
