"""What a training draws does not depend on where its cases are kept, nor on who loads them."""

import logging

import numpy as np
import pytest
import torch
from monai.data.utils import set_rnd
from monai.transforms import Compose, RandGaussianNoised
from PIL import Image

from common.engine import caching
from common.engine.caching import CasesInMemory, CasesOnDisk, cached, file_of
from common.engine.loaders import ResumableSampler, training_loader
from common.engine.memory import _of_group
from common.transforms.load import load_grey


@pytest.fixture
def cases(tmp_path):
    generator = np.random.default_rng(0)
    for number in range(6):
        Image.fromarray(generator.integers(0, 256, (40, 40), dtype=np.uint8)).save(tmp_path / f"{number}.png")
    return [{"image": str(tmp_path / f"{number}.png"), "case": str(number)} for number in range(6)]


def transforms():
    return Compose([*load_grey(size=32), RandGaussianNoised(keys="image", prob=1.0, std=0.3)])


def images(dataset, *, epoch=1, workers=0):
    """Every image of an epoch, by its case."""
    loader = training_loader(dataset=dataset, batch_size=2, seed=0, device="cpu", num_workers=workers)
    loader.sampler.set_epoch(epoch)
    set_rnd(dataset, epoch)
    batches = [(case, image) for batch in loader for case, image in zip(batch["case"], batch["image"], strict=True)]
    return {case: image.as_tensor() if hasattr(image, "as_tensor") else image for case, image in sorted(batches)}


def alike(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[case], second[case]) for case in first)


def test_every_cache_and_every_number_of_workers_draw_the_same(cases, tmp_path):
    sets = [cached(data=cases, transform=transforms(), cache=cache, folder=str(tmp_path / "cache"))
            for cache in ("none", "memory", "disk", "disk")]  # fmt: skip
    expected = images(sets[0])
    for dataset in sets:
        for workers in (0, 2):
            assert alike(expected, images(dataset, workers=workers))
    assert not alike(expected, images(sets[0], epoch=2))
    assert len(list((tmp_path / "cache").glob("*/*.pt"))) == 6


def test_a_file_of_the_cache_is_of_one_image_and_one_recipe(cases, tmp_path):
    dataset = cached(data=cases, transform=transforms(), cache="disk", folder=str(tmp_path / "cache"))
    before = images(dataset)
    Image.fromarray(np.zeros((40, 40), np.uint8)).save(cases[0]["image"])
    after = images(cached(data=cases, transform=transforms(), cache="disk", folder=str(tmp_path / "cache")))
    assert not torch.equal(before["0"], after["0"]) and torch.equal(before["1"], after["1"])
    other = Compose([*load_grey(size=64)])
    recipes = [CasesOnDisk(cases, t, skip_damaged=False, folder="x", limit_gb=1).recipe for t in (transforms(), other)]
    assert file_of(tmp_path, cases[0], recipes[0]) != file_of(tmp_path, cases[0], recipes[1])


def test_a_cache_on_disk_holds_no_more_than_it_may(cases, tmp_path):
    dataset = cached(data=cases, transform=transforms(), cache="disk", folder=str(tmp_path / "c"), limit_gb=1e-5)
    images(dataset)
    held = [file.stat().st_size for file in (tmp_path / "c").glob("*/*.pt")]
    assert 0 < len(held) < 6 and sum(held[:-1]) < 1e4
    assert alike(images(dataset), images(cached(data=cases, transform=transforms(), cache="none")))


@pytest.mark.parametrize(("free", "disk", "expected"), [(1e9, 1e9, "memory"), (1e4, 1e9, "disk"), (1e4, 1e3, "none")])
def test_auto_takes_what_fits_and_says_so(cases, tmp_path, monkeypatch, caplog, free, disk, expected):
    monkeypatch.setattr(caching, "FEW", 2)
    monkeypatch.setattr(caching, "free_memory", lambda: free)
    monkeypatch.setattr(caching, "_free_disk", lambda _: disk)
    with caplog.at_level(logging.INFO):
        dataset = cached(data=cases, transform=transforms(), folder=str(tmp_path / "cache"))
    kind = {"memory": CasesInMemory, "disk": CasesOnDisk, "none": caching.Cases}[expected]
    assert type(dataset) is kind and f"cache: {expected}; 6 cases" in caplog.text


def test_wrong_words_are_refused(cases):
    with pytest.raises(ValueError, match="cache: 'ram' is none of"):
        cached(data=cases, transform=transforms(), cache="ram")
    with pytest.raises(ValueError, match="pass --cache_dir"):
        cached(data=cases, transform=transforms(), cache="disk")


@pytest.mark.parametrize("cache", ["none", "memory", "disk"])
def test_a_damaged_image_is_left_out_where_that_is_asked_for(cases, tmp_path, monkeypatch, caplog, cache):
    (tmp_path / "3.png").write_bytes(b"no image")
    options = {"data": cases, "transform": transforms(), "cache": cache, "folder": str(tmp_path / "cache")}
    with pytest.raises((RuntimeError, ValueError)):
        images(cached(**options))
    dataset = cached(**options, skip_damaged=True)
    loader = training_loader(dataset=dataset, batch_size=2, seed=0, device="cpu")
    seen = [case for batch in loader for case in batch["case"]]
    assert len(seen) == 6 and "3" not in seen and seen.count("4") == 2
    assert caplog.text.count("left out: case 4, ") == 1 and "3.png" in caplog.text
    (tmp_path / "0.png").write_bytes(b"no image")
    with pytest.raises(ValueError, match=r"skip_damaged: 2 of 6 cases cannot be read"):
        images(cached(**options, skip_damaged=True))


def test_an_epoch_goes_on_after_the_batches_that_it_had(cases):
    sampler = ResumableSampler(cases, seed=1)
    sampler.set_epoch(3)
    whole = list(sampler)
    sampler.start = 4
    assert list(sampler) == whole[4:] and len(sampler) == 6 and sorted(whole) == list(range(6))


def test_a_container_says_what_is_free(tmp_path):
    (tmp_path / "max").write_text("1000\n")
    (tmp_path / "current").write_text("400\n")
    assert _of_group(str(tmp_path / "max"), str(tmp_path / "current")) == 600
    (tmp_path / "max").write_text("max\n")
    assert _of_group(str(tmp_path / "max"), str(tmp_path / "current")) is None
