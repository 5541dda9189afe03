"""What a training draws does not depend on where its cases are kept, nor on who loads them."""

import logging
import os
import platform
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from monai.data import get_track_meta
from monai.data.utils import list_data_collate, set_rnd
from monai.transforms import Compose, Lambdad, RandGaussianNoised
from PIL import Image

import common
from common.cli.errors import line_for
from common.engine import caching
from common.engine.caching import CasesInMemory, CasesOnDisk, cached
from common.engine.case_files import file_of, recipe_of
from common.engine.loaders import ResumableSampler, training_loader
from common.engine.memory import free_memory, limits
from common.text.tokenizer import ReportTokenizer
from common.transforms.load import load_grey
from common.transforms.reports import TokenizeReportd


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


def test_a_file_of_the_cache_does_not_outlive_the_code_that_made_it(tmp_path, monkeypatch):
    """What decodes an image differently tomorrow shall not read what it decoded today."""
    (tmp_path / "reader.py").write_text("LEVELS = 255\n")
    monkeypatch.setattr(common, "__path__", [str(tmp_path)])
    before = recipe_of(load_grey(size=64))
    assert recipe_of(load_grey(size=64)) == before
    (tmp_path / "reader.py").write_text("LEVELS = 256\n")
    assert recipe_of(load_grey(size=64)) != before


def test_a_recipe_is_the_same_in_all_processes():
    program = "from common.engine.case_files import recipe_of; from common.transforms.load import load_grey; " \
              "print(recipe_of(load_grey(size=64)).hex())"  # fmt: skip
    seed = "1" if os.environ.get("PYTHONHASHSEED") == "0" else "0"  # of the order of sets, another than this process's
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program], capture_output=True, text=True, check=True,
        env={**os.environ, "PYTHONHASHSEED": seed},
    )  # fmt: skip
    assert done.stdout == recipe_of(load_grey(size=64)).hex() + "\n"


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
    with pytest.raises(ValueError, match=r"skip_damaged: 1 of 1 cases cannot be read"):
        cached(**{**options, "data": cases[3:4]}, skip_damaged=True)[0]


def test_an_epoch_goes_on_after_the_batches_that_it_had(cases):
    sampler = ResumableSampler(cases, seed=1)
    sampler.set_epoch(3)
    whole = list(sampler)
    sampler.start = 4
    assert list(sampler) == whole[4:] and len(sampler) == 6 and sorted(whole) == list(range(6))


def test_a_container_says_what_is_free(tmp_path):
    job, own = tmp_path / "slurm" / "job_7", tmp_path / "own"
    job.mkdir(parents=True)
    own.write_text("3:cpu:/x\n0::/slurm/job_7\n")
    for folder, limit, used in ((job, "1000", "400"), (job.parent, "max", "500"), (tmp_path, "5000", "100")):
        (folder / "memory.max").write_text(f"{limit}\n")
        (folder / "memory.current").write_text(f"{used}\n")
    (job / "memory.stat").write_text("anon 10\ninactive_file 50\n")
    assert list(limits(own, tmp_path)) == [650, 4900]
    assert 0 < free_memory() < 1e15 and list(limits(tmp_path / "none", tmp_path / "none")) == []


def test_a_batch_may_hold_cached_and_new_cases(cases, tmp_path):
    options = {"data": cases, "transform": Compose(load_grey(size=32)), "cache": "disk", "folder": str(tmp_path / "c")}
    first = cached(**options)[0]
    batch = list_data_collate([cached(**options)[1], first, cached(**options)[0]])
    assert batch["image"].shape == (3, 1, 32, 32)


def test_a_broken_file_of_the_cache_is_made_anew(cases, tmp_path, caplog):
    options = {"data": cases, "transform": transforms(), "cache": "disk", "folder": str(tmp_path / "c")}
    before = images(cached(**options))
    for file in (tmp_path / "c").glob("*/*.pt"):
        file.write_bytes(file.read_bytes()[:200])
    assert alike(before, images(cached(**options, skip_damaged=True))) and "left out" not in caplog.text
    assert alike(before, images(cached(**options)))


def test_a_full_disk_ends_the_keeping_and_not_the_training(cases, tmp_path, monkeypatch, caplog):
    def full(*_):
        raise OSError(28, "No space left on device")

    dataset = cached(data=cases, transform=transforms(), cache="disk", folder=str(tmp_path / "c"), skip_damaged=True)
    monkeypatch.setattr(torch, "save", full)
    assert len(images(dataset)) == 6 and caplog.text.count("cannot be written") == 1 and "left out" not in caplog.text


def test_a_case_that_comes_twice_in_an_epoch_is_drawn_twice(cases):
    dataset = cached(data=cases, transform=transforms(), cache="memory")
    first, again, third = (dataset.drawn(number)["image"] for number in (1, 7, 1))
    assert torch.equal(first, third) and not torch.equal(first, again)


def test_what_is_kept_of_a_row_is_the_row(cases, tmp_path):
    table = torch.rand(5000, 64)
    data = [{**case, "row": row} for case, row in zip(cases, table, strict=False)]
    dataset = cached(data=data, transform=transforms(), cache="disk", folder=str(tmp_path / "c"))
    images(dataset)
    assert max(file.stat().st_size for file in (tmp_path / "c").glob("*/*.pt")) < 20_000


def test_fitted_and_loaded_tokenizers_are_one_recipe(tmp_path):
    fitted = ReportTokenizer.fit(["A solid nodule.", "\u7532\u72b6\u817a"])
    fitted.save(tmp_path / "t.json")
    recipes = []
    for tokenizer in (fitted, ReportTokenizer.load(tmp_path / "t.json")):
        transform = Compose([TokenizeReportd(tokenizer, max_length=8)])
        recipes.append(CasesOnDisk([], transform, skip_damaged=False, folder="x", limit_gb=1).recipe)
        transform({"report": "A solid nodule."})
        recipes.append(CasesOnDisk([], transform, skip_damaged=False, folder="x", limit_gb=1).recipe)
    assert len(set(recipes)) == 1


def test_what_a_loading_process_met_is_one_line(cases, tmp_path):
    (tmp_path / "3.png").write_bytes(b"no image")
    with pytest.raises(Exception, match="DataLoader worker") as met:
        images(cached(data=cases, transform=transforms(), cache="none"), workers=1)
    line = line_for(met.value)
    assert line is not None and re.fullmatch(r"ValueError: image: '.*3\.png' is damaged.*", line)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another allocator")
def test_a_freed_block_is_used_again():
    """Page faults of a process that fills and frees a block of 64 MiB ten times, after a first time."""
    program = (
        "import resource, sys; from common.engine.memory import keep_freed_blocks\n"
        "sys.argv[1:] and keep_freed_blocks(); bytearray(2**26)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt\n"
        "for _ in range(10): bytearray(2**26).count(1)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)\n"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}

    def faults(*arguments):
        command = [sys.executable, "-c", program, *arguments]
        return int(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)

    assert faults("keep") < 0.2 * faults()


@pytest.mark.parametrize("kept", ["none", "memory", "disk"])
def test_random_transforms_see_tensors_without_metadata(kept, cases, tmp_path):
    seen = []

    def look(image):
        seen.append(type(RandGaussianNoised(keys="image", prob=1.0)({"image": image})["image"]))
        if len(seen) > 1:
            raise OSError("gone")
        return image

    varied = Compose([*load_grey(size=32), RandGaussianNoised(keys="image", prob=1.0), Lambdad("image", look)])
    dataset = cached(data=cases, transform=varied, cache=kept, folder=str(tmp_path / "cache"))
    set_rnd(dataset, 1)
    dataset[0]
    assert get_track_meta()
    with pytest.raises(RuntimeError):
        dataset[1]
    assert get_track_meta() and seen[0] is torch.Tensor
