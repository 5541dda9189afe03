"""Synthetic chest X-rays: report, boxes and picture say the same; the same seed gives the same files."""

import json

import numpy as np
import pytest
from PIL import Image

from common.datasets.studies import read_studies
from common.synthetic.chest import FOUND, LABELS, SHARES, ChestOptions, chest_or_synthetic, write_chests
from common.synthetic.chest_phantom import draw_chest, place


@pytest.fixture(scope="module")
def chests(tmp_path_factory):
    root = tmp_path_factory.mktemp("chest") / "set"
    write_chests(str(root), ChestOptions(studies=60, size=96, seed=1))
    return root


def entries(root):
    return [entry for part in json.loads((root / "annotation.json").read_text()).values() for entry in part]


def test_reports_name_the_lesions_in_the_boxes(chests):
    found = entries(chests)
    assert len(found) == 60 and {label for entry in found for label in entry["box_labels"]} == set(SHARES)
    for entry in found:
        for label in SHARES:
            told = any(
                text.format(side=side, zone=zone) in entry["report"]
                for text in FOUND[label] for side in ("left", "right") for zone in ("upper", "middle", "lower")
            )  # fmt: skip
            assert told == (label in entry["box_labels"])
        for (x, y, w, h), label in zip(entry["boxes"], entry["box_labels"], strict=True):
            assert 0 <= x < x + w <= 96 and 0 <= y < y + h <= 96
            if label == "Pleural effusion":
                assert ("right pleural" in entry["report"] or "on the right" in entry["report"]) == (x + w / 2 < 48)


def test_coco_files_hold_the_same_boxes(chests):
    for split in ("train", "val", "test"):
        coco = json.loads((chests / f"coco_{split}.json").read_text())
        studies = json.loads((chests / "annotation.json").read_text())[split]
        names = {category["id"]: category["name"] for category in coco["categories"]}
        assert tuple(names.values()) == LABELS and len(coco["images"]) == len(studies)
        found = [(a["bbox"], names[a["category_id"]]) for a in coco["annotations"]]
        assert found == [pair for s in studies for pair in zip(s["boxes"], s["box_labels"], strict=True)]


@pytest.mark.parametrize("name", list(SHARES))
def test_a_lesion_changes_the_picture_inside_its_box_alone(name):
    lesion = place(name, "left", "middle", np.random.default_rng(0))
    (plain, _), (drawn, boxes) = (draw_chest(ls, 96, np.random.default_rng(1)) for ls in ([], [lesion]))
    x, y, w, h = (round(value) for value in boxes[0])
    change = np.abs(drawn.astype(float) - plain)
    outside = change.copy()
    outside[max(y - 3, 0) : y + h + 3, max(x - 3, 0) : x + w + 3] = 0
    assert change[y : y + h, x : x + w].max() > 25 > 12 > np.percentile(outside, 99)


def test_the_same_seed_gives_the_same_files(chests, tmp_path):
    again = chest_or_synthetic(
        dataset_dir=None, synthetic_dir=str(tmp_path / "again"), options={"studies": 60, "size": 96, "seed": 1}
    )
    assert entries(tmp_path / "again") == entries(chests)
    first = read_studies(again, "train", views=1)[0]
    assert np.array_equal(*(np.asarray(Image.open(root / "images/X0000.png")) for root in (chests, tmp_path / "again")))
    assert first["report"] and len(first["images"]) == 1
