import filecmp
import json
from dataclasses import asdict

import numpy as np
import pytest
from PIL import Image

from common.synthetic.thyroid import ThyroidOptions, _fits, dataset_or_synthetic, tirads, write_synthetic
from common.synthetic.thyroid_phantom import Nodule, draw
from common.text.thyroid import nodule_sentence

ROUND = Nodule(0.5, 0.5, 0.12, "middle", "lower", "solid", "hypoechoic", "round", "smooth", "none")


def read(root):
    return json.loads((root / "reports.json").read_text(encoding="utf-8"))


def test_the_same_seed_gives_the_same_files(tmp_path):
    for name in "ab":
        write_synthetic(str(tmp_path / name), ThyroidOptions(reports=2, size=48, seed=7))
    write_synthetic(str(tmp_path / "c"), ThyroidOptions(reports=2, size=48, seed=8))
    for file in (tmp_path / "a").rglob("*.*"):
        assert filecmp.cmp(file, tmp_path / "b" / file.relative_to(tmp_path / "a"), shallow=False)
    assert read(tmp_path / "a") != read(tmp_path / "c")


def test_speckle_has_rayleigh_contrast_and_nodules_differ_as_named():
    rng = np.random.default_rng(0)
    means = {}
    for echogenicity in ("anechoic", "hypoechoic", "isoechoic", "hyperechoic"):
        image, (mask,) = draw([Nodule(**{**asdict(ROUND), "echogenicity": echogenicity})], 128, rng)
        inner = image[56:72, 56:72]
        means[echogenicity] = inner.mean()
        assert 0.005 < mask.mean() < 0.1
    assert means["anechoic"] < means["hypoechoic"] < means["isoechoic"] < means["hyperechoic"]
    assert image[40:50, 20:30].std() > 3  # speckle, not a flat drawing


@pytest.mark.parametrize(("shape", "taller"), [("taller-than-wide", True), ("wider-than-tall", False)])
def test_shape_is_drawn_as_named(shape, taller):
    _, (mask,) = draw([Nodule(**{**asdict(ROUND), "shape": shape})], 128, np.random.default_rng(0))
    height, width = np.ptp(np.argwhere(mask), axis=0)
    assert bool(height > width) is taller


def test_each_own_sentence_fits_the_target_only_and_masks_are_the_target(synthetic):
    for report in read(synthetic):
        assert 3 <= len(report["images"]) <= 4
        own = [s["images"] for s in report["sentences"] if s["images"]]
        assert sorted(name for names in own for name in names) == sorted(report["images"])
        assert any(not s["images"] for s in report["sentences"])
        for nodule in report["nodules"]:
            mask = np.asarray(Image.open(synthetic / "masks" / nodule["image"])) > 0
            rows, columns = np.argwhere(mask).mean(0) / len(mask)
            assert abs(columns - nodule["x"]) < 0.06 and abs(rows - nodule["y"]) < 0.06
        for sentence in report["sentences"]:
            assert sentence["text"] in report["text"]
            assert all(word in sentence["text"] for word in sentence["attributes"])


def test_position_of_sentences_is_no_clue(tmp_path):
    write_synthetic(str(tmp_path / "s"), ThyroidOptions(reports=60, size=32))
    first = [
        s["images"][0] == report["images"][0]
        for report in read(tmp_path / "s")
        for s in report["sentences"][:3]
        if s["images"]
    ]
    assert 0.1 < np.mean(first) < 0.5


def test_options_do_what_they_say(tmp_path):
    def written(**options):
        root = tmp_path / json.dumps(options).replace("/", "_")
        write_synthetic(str(root), ThyroidOptions(reports=8, size=32, **options))
        return root, read(root)

    root, reports = written(unmatched_rate=1.0)
    assert all(not s["images"] for r in reports for s in r["sentences"])
    assert not any(np.asarray(Image.open(path)).any() for path in (root / "masks").iterdir())
    _, reports = written(second_rate=1.0)
    assert all(len(r["nodules"]) == 2 * len(r["images"]) for r in reports)
    _, reports = written(negation_rate=1.0)
    assert all(any(s["text"].startswith("No ") and s["attributes"] for s in r["sentences"]) for r in reports)
    _, plain = written()
    _, wrong = written(wrong_side_rate=1.0)
    said = [sum("left" in s["attributes"] for r in group for s in r["sentences"]) for group in (plain, wrong)]
    assert said[0] != said[1]
    _, chinese = written(language="zh")
    assert all("结节" in r["text"] or "团块" in r["text"] for r in chinese)


def test_sentences_about_other_images_fit_few_nodules_here(tmp_path):
    rates = []
    for rate in (1.0, 0.0):
        write_synthetic(str(tmp_path / str(rate)), ThyroidOptions(reports=60, size=32, absent_rate=rate))
        rates.append(np.std([len(r["text"]) for r in read(tmp_path / str(rate))]))
    assert rates[0] != rates[1]


def test_a_mention_fits_its_nodule():
    assert _fits(ROUND, {"row": "lower", "shape": "round"}) and not _fits(ROUND, {"row": "upper"})


def test_sentence_grammar():
    rng = np.random.default_rng(0)
    for _ in range(60):
        text, words = nodule_sentence({"column": "middle", "echogenicity": "hypoechoic"}, ROUND, rng, language="en")
        assert (
            "  " not in text
            and " ." not in text
            and text.endswith(".")
            and " a echo" not in text
            and " an low" not in text
        )
        assert len(words) == 2


def test_tirads_follows_acr():
    rng = np.random.default_rng(0)
    worst = Nodule(**{**asdict(ROUND), "shape": "taller-than-wide", "margin": "irregular", "foci": "punctate"})
    cyst = Nodule(**{**asdict(ROUND), "composition": "cystic", "echogenicity": "anechoic"})
    assert [tirads(n, rng)["tirads"] for n in (worst, ROUND, cyst)] == [5, 4, 1]
    assert np.mean([tirads(worst, rng)["malignant"] for _ in range(99)]) > 0.9
    assert np.mean([tirads(cyst, rng)["malignant"] for _ in range(99)]) < 0.1


def test_a_given_folder_must_exist_and_other_options_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="dataset_dir: no folder 'nowhere'"):
        dataset_or_synthetic(dataset_dir="nowhere", synthetic_dir=str(tmp_path / "s"), options={})
    options = {"reports": 2, "size": 32}
    root = dataset_or_synthetic(dataset_dir=None, synthetic_dir=str(tmp_path / "s"), options=options)
    assert dataset_or_synthetic(dataset_dir=None, synthetic_dir=root, options=options) == root
    with pytest.raises(ValueError, match=r"was made with \{'size': 32\}; remove the folder"):
        dataset_or_synthetic(dataset_dir=None, synthetic_dir=root, options={"reports": 2, "size": 64})
