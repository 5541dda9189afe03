"""Phrases from attributes, and the PhraseCut format both ways."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.datasets.layouts import read_dataset
from common.datasets.phrasecut import read_phrasecut, trace, write_phrasecut
from common.datasets.phrases import PLAIN, describe, phrase_of, with_phrases
from common.images.masks import draw_polygons


@pytest.mark.parametrize(
    ("words", "phrase"),
    [
        (["superior", "left", "low-echo", "rounded"], "hypoechoic round nodule in the upper left part"),
        (["round", "hypoechoic", "left", "upper"], "hypoechoic round nodule in the upper left part"),
        (["middle", "lower", "large"], "large nodule in the lower middle part"),
        (["right", "central"], "nodule in the middle right part"),
        (["middle", "40", "20"], "nodule in the middle part"),
        (["低回声", "左侧", "上份"], "hypoechoic nodule in the upper left part"),
        (["taller-than-wide"], "taller-than-wide nodule"),
    ],
)
def test_synonyms_and_order_give_one_phrase(words, phrase):
    assert describe(words) == phrase


def test_the_phrase_of_a_case_is_about_its_own_nodules():
    sentences = [
        {"about_image": True, "attributes": ["left", "round"]},
        {"about_image": False, "attributes": ["right"]},
        {"about_image": True, "attributes": []},
        {"about_image": True, "attributes": ["lower"]},
    ]
    assert phrase_of({"sentences": sentences}) == "round nodule in the left part and nodule in the lower part"
    assert phrase_of({"sentences": sentences, "phrase": "goitre"}) == "goitre"
    assert phrase_of({}) == PLAIN
    (case,) = with_phrases([{"image": "a.png"}])
    assert case["prompt"] == "an ultrasound image of a thyroid nodule"


def test_synthetic_phrases_tell_the_images_of_a_patient_apart(synthetic):
    cases = with_phrases(read_dataset(str(synthetic), "train"))
    assert all("nodule" in case["phrase"] and case["phrase"] != PLAIN for case in cases)
    assert len({case["phrase"] for case in cases}) > len(cases) / 2


def test_outlines_are_filled_back_to_the_mask():
    mask = np.zeros((40, 60), bool)
    mask[5:20, 10:30], mask[25:38, 40:60] = True, True
    outlines = trace(mask)
    assert len(outlines) == 2
    again = draw_polygons(outlines, (60, 40))
    assert (again == mask).mean() > 0.99 and again[5:20, 10:30].all()


def test_holes_are_filled():
    mask = np.zeros((30, 30), bool)
    mask[5:25, 5:25] = True
    mask[10:15, 10:15] = False
    assert len(trace(mask)) == 1


@pytest.mark.parametrize("place", ["", "data/VGPhraseCut_v0", "third_party/thyroid/data"])
def test_written_and_read_is_the_same(synthetic, tmp_path, place):
    cases = {split: read_dataset(str(synthetic), split) for split in ("train", "validation", "test")}
    write_phrasecut(str(tmp_path / "set" / place), cases)
    again = read_dataset(str(tmp_path / "set"), "validation")
    assert [case["phrase"] for case in again] == [phrase_of(case) for case in cases["validation"]]
    for old, new in zip(cases["validation"], again, strict=True):
        image, mask = (np.asarray(Image.open(old[key])) for key in ("image", "label"))
        assert np.array_equal(np.asarray(Image.open(new["image"])), image)
        assert ((draw_polygons(new["label"], image.shape[::-1])) == (mask > 127)).mean() > 0.99


def test_nothing_is_overwritten_and_empty_masks_are_left_out(tmp_path):
    for name in ("a", "empty"):
        pixels = np.zeros((20, 20), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
        pixels[5:10, 5:10] = 255 if name == "a" else 0
        Image.fromarray(pixels).save(tmp_path / f"{name}_mask.png")
    cases = [{"image": str(tmp_path / f"{n}.png"), "label": str(tmp_path / f"{n}_mask.png")} for n in ("a", "empty")]
    write_phrasecut(str(tmp_path / "set"), {"test": cases})
    (case,) = read_phrasecut(str(tmp_path / "set"), "test")
    assert case["phrase"] == PLAIN
    with pytest.raises(FileExistsError):
        write_phrasecut(str(tmp_path / "set"), {"test": cases})


def test_a_damaged_folder_is_named(synthetic, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"dataset_dir: no image_data_split.json"):
        read_phrasecut(str(tmp_path), "test")
    write_phrasecut(str(tmp_path / "set"), {"train": read_dataset(str(synthetic), "train")[:1]})
    with pytest.raises(FileNotFoundError, match=r"no file .*refer_test.json"):
        read_phrasecut(str(tmp_path / "set"), "test")
    tasks = Path(tmp_path / "set" / "refer_train.json")
    tasks.write_text(json.dumps([{**json.loads(tasks.read_text())[0], "Polygons": []}]))
    with pytest.raises(ValueError, match=r"task '0__0' .* has no polygon"):
        read_phrasecut(str(tmp_path / "set"), "train")
