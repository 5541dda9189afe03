"""Every command as two processes against one: the same results, and one network."""

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.test_bundle_contract import BUNDLES, PLACES, TINY, checked, flags, inference_flags, train_files
from tests.warm import monai_bundle, on_ranks


def config(bundle, name):
    return f"bundles/{bundle}/configs/{name}.json"


def on_two(*arguments, before=lambda: None):
    done = on_ranks(2, "run", *arguments, before=before)
    for rank in done:
        checked(rank, 0)
    return done


def on_one(*arguments):
    return checked(monai_bundle("run", *arguments), 0)


def keep_each_rank(folder):
    """Let every rank save what rank 0 saves alone, as an epoch ends."""

    def patch():
        from common.engine import state as training_state

        save = training_state.TrainingState.save

        def save_too(self, engine):
            save(self, engine)
            torch.save(self.network.state_dict(), Path(folder) / f"rank{os.environ['RANK']}.pt")

        training_state.TrainingState.save = save_too

    return patch


def same_networks(folder):
    first, second = (torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2))
    return [name for name in first if not torch.equal(first[name], second[name])]


@pytest.fixture(scope="module", params=BUNDLES)
def trained(request, tmp_path_factory):
    """A bundle trained by two processes: its name, folder and overrides."""
    bundle = request.param
    folder, tiny = tmp_path_factory.mktemp(bundle), TINY[bundle]
    places = {name: folder / place for name, place in PLACES.items()}
    common = flags(tiny["network"], tiny["data"], places)
    options = flags({**tiny["train"], "batch_size": 2})
    on_two("--config_file", config(bundle, "train"), *common, *options, before=keep_each_rank(folder))
    for name, own in tiny.get("also", {}).items():
        on_one("--config_file", config(bundle, name), *flags(tiny["data"], own, places))
    return bundle, folder, common


def test_both_processes_have_one_network(trained):
    _, folder, _ = trained
    assert not same_networks(folder)
    before = torch.load(folder / "rank0.pt", weights_only=True)
    assert all(torch.isfinite(value).all() for value in before.values())
    assert not list(folder.rglob("*.part"))


def rows_of(path):
    with open(path, newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_evaluation_is_that_of_one_process(trained, tmp_path):
    bundle, _, common = trained
    for run, folder in ((on_one, tmp_path / "one"), (on_two, tmp_path / "two")):
        run("--config_file", train_files(bundle, "evaluate"), *common, *flags(output_dir=folder))
    one, two = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "two"))
    random = {name for name in one if "others" in name}  # akessfa's are drawn at random
    assert one.keys() == two.keys()
    for name in one.keys() - random:
        assert two[name] == pytest.approx(one[name], abs=1e-5), name
    rows = [rows_of(tmp_path / name / "per_case.csv") for name in ("one", "two")]
    keep = [k for k, name in enumerate(rows[0][0]) if "others" not in name and name not in ("case", "patient")]
    assert ("patient" in rows[0][0]) == (bundle in ("akessfa", "clip_tnseg", "hfcn"))
    assert rows[0][0] == rows[1][0] and [row[0] for row in rows[0]] == [row[0] for row in rows[1]]
    for own, other in zip(rows[0][1:], rows[1][1:], strict=True):
        assert own[:1] == other[:1]
        values = [np.array([row[index] for index in keep], dtype=float) for row in (own, other)]
        np.testing.assert_allclose(*values, atol=1e-5)


def test_inference_is_that_of_one_process(trained, tmp_path):
    bundle, folder, _ = trained
    tiny = TINY[bundle]
    places = {"ckpt_dir": folder / "models", "synthetic_dir": folder / "synthetic"}
    common = flags(tiny["network"], tiny["data"], places)
    for run, out in ((on_one, tmp_path / "one"), (on_two, tmp_path / "two")):
        run("--config_file", config(bundle, "inference"), *common, *flags(output_dir=out))
    same_results(tmp_path / "one", tmp_path / "two", several=True)


def test_one_picture_on_two_processes(trained, tmp_path):
    bundle, folder, _ = trained
    for run, out in ((on_one, tmp_path / "one"), (on_two, tmp_path / "two")):
        options = inference_flags(bundle, folder, output_dir=out, **TINY[bundle]["infer"])
        run("--config_file", config(bundle, "inference"), *options)
    same_results(tmp_path / "one", tmp_path / "two", several=False)


def same_results(one, two, several):
    predictions = [json.loads((folder / "predictions.json").read_text()) for folder in (one, two)]
    assert (len(predictions[0]) > 1) == several
    assert rounded(predictions[0]) == rounded(predictions[1])
    assert sorted(file.name for file in one.iterdir()) == sorted(file.name for file in two.iterdir())


def rounded(value):
    if isinstance(value, float):
        return round(value, 3)
    if isinstance(value, list):
        return [rounded(part) for part in value]
    return {key: rounded(part) for key, part in value.items()} if isinstance(value, dict) else value


DETECTOR = {"epochs": 2, "batch_size": 2, "image_size": 64, "burn_in_share": 0.3, "labelled_share": 0.5}


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    """The detector trained by two processes, past its burning in."""
    folder = tmp_path_factory.mktemp("detector")
    places = flags({name: folder / place for name, place in PLACES.items()})
    common = [*flags(TINY["d2rnet"]["data"], DETECTOR), *places]
    on_two("--config_file", config("d2rnet", "train_detector"), *common, before=keep_each_rank(folder))
    return folder, common


def test_the_detectors_teacher_is_one(detector):
    folder, _ = detector
    assert not same_networks(folder)


def alike(folder):
    """Let both ranks see the same images in the same order: their mean gradient is then that of one process."""

    def patch():
        from types import SimpleNamespace

        from common.engine import loaders, seeds

        begin = loaders.ResumableSampler.__init__

        def begin_alike(self, dataset, **options):
            begin(self, dataset, **options)
            self.num_replicas, self.rank, self.num_samples = 1, 0, len(dataset)
            self.total_size = len(dataset)

        loaders.ResumableSampler.__init__ = begin_alike
        seeds.idist = SimpleNamespace(get_rank=lambda: 0)
        keep_each_rank(folder)()

    return patch


def test_two_processes_on_the_same_images_learn_what_one_does(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    for folder in (one, two):
        folder.mkdir()
    options = flags(TINY["d2rnet"]["data"], DETECTOR, synthetic_dir=tmp_path / "data", output_dir=tmp_path)
    name = config("d2rnet", "train_detector")
    on_one("--config_file", name, *options, *flags(ckpt_dir=one))
    on_two("--config_file", name, *options, *flags(ckpt_dir=two), before=alike(two))
    states = [torch.load(folder / "detector.pt", weights_only=True) for folder in (one, two)]
    for key in states[0]:
        torch.testing.assert_close(states[1][key].float(), states[0][key].float(), atol=1e-4, rtol=1e-3)


def test_pseudo_labels_are_those_of_one_process(detector, tmp_path):
    folder, _ = detector
    places = flags(TINY["d2rnet"]["data"], ckpt_dir=folder / "models", synthetic_dir=folder / "synthetic")
    for run, name in ((on_one, "one"), (on_two, "two")):
        own = flags(output=tmp_path / f"{name}.json", output_dir=tmp_path / name, overwrite=True, score=0.01)
        run("--config_file", config("d2rnet", "pseudo_label"), *places, *own)
    one, two = (rounded(json.loads((tmp_path / f"{name}.json").read_text())) for name in ("one", "two"))
    assert one == two and not list(tmp_path.glob("*.jsonl"))
    assert any(score > 0 for entry in one["train"] for score in entry["scores"])


def test_the_detectors_evaluation_is_that_of_one_process(detector, tmp_path):
    folder, common = detector
    names = str([config("d2rnet", name) for name in ("train_detector", "evaluate_detector")])
    for run, name in ((on_one, "one"), (on_two, "two")):
        run("--config_file", names, *common, *flags(ckpt_dir=folder / "models", output_dir=tmp_path / name))
    one, two = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("one", "two"))
    assert one == pytest.approx(two, abs=1e-6)


def test_cached_features_are_those_of_one_process(tmp_path):
    tiny = TINY["clip_tnseg"]
    common = flags(tiny["network"], tiny["data"], {**tiny["train"], "epochs": 1, "batch_size": 2},
                   synthetic_dir=tmp_path / "data", output_dir=tmp_path)  # fmt: skip
    for run, name in ((on_one, "one"), (on_two, "two")):
        own = flags(ckpt_dir=tmp_path / name, features_dir=tmp_path / f"taps_{name}")
        run("--config_file", train_files("clip_tnseg", "cache_features"), *common, *own)
    one, two = ({f.name for f in (tmp_path / f"taps_{name}").iterdir()} for name in ("one", "two"))
    assert one == two and len(one) > 2


@pytest.mark.parametrize("name", ["clip_tnseg/pretrain_clip", "sgf/distill"])
def test_the_work_of_one_process_is_refused_by_two(name, tmp_path):
    bundle, file = name.split("/")
    for done in on_ranks(2, "run", "--config_file", config(bundle, file), "--output_dir" if file == "distill" else
                         "--clip_dir", tmp_path / "out"):  # fmt: skip
        assert (
            done.returncode == 1 and "nproc_per_node: 2 processes; " in done.stderr and "Traceback" not in done.stderr
        )
    assert not (tmp_path / "out").exists()


def test_the_order_of_configs_does_not_matter(tmp_path):
    from monai.bundle import ConfigParser

    for bundle in BUNDLES:
        orders = [("multi_gpu_train", "evaluate"), ("evaluate", "multi_gpu_train")]
        files = [[config(bundle, name) for name in ("train", *order)] for order in orders]
        first, second = (ConfigParser.load_config_files(names) for names in files)
        notes = {"_desc_"}
        assert {k: v for k, v in first.items() if k not in notes} == {k: v for k, v in second.items() if k not in notes}
