"""Commands that are killed at any moment leave whole files, and a training that goes on ends as if it had not been."""

import csv
import json
import os
import random
import signal
import time

import pytest
import torch
from PIL import Image

from tests.test_bundle_contract import BUNDLES, PLACES, TINY, checked, flags, smallest, train_files
from tests.warm import Running, monai_bundle

MOMENTS = int(os.environ.get("MOMENTS", "2"))  # kills of each command, between its start and its usual end


def whole(folder):
    """Every file that has its final name can be read to its end."""
    for file in folder.rglob("*"):
        if not file.is_file() or ".part" in file.name or file.name.startswith(".in-use"):
            continue
        assert file.stat().st_size > 0, file
        if file.suffix == ".json":
            json.loads(file.read_text(encoding="utf-8"))
        if file.suffix == ".png":
            Image.open(file).load()
        if file.suffix == ".pt":
            torch.load(file, weights_only=True)
        if file.suffix == ".csv":
            rows = list(csv.reader(file.read_text(encoding="utf-8").splitlines()))
            assert len({len(row) for row in rows}) == 1, file


def killed_at_random(arguments, seconds, seed):
    """Kill the command ``MOMENTS`` times, in a fork each; return how many were killed before they had ended."""
    generator, count = random.Random(seed), 0
    for _ in range(MOMENTS):
        command = Running(arguments)
        time.sleep(generator.uniform(0.2, 1.0) * seconds)
        ended, _status = os.waitpid(command.child, os.WNOHANG)
        if not ended:
            os.kill(command.child, signal.SIGKILL)
            os.waitpid(command.child, 0)
            count += 1
        yield count
        command.folder.cleanup()


@pytest.mark.parametrize("bundle", BUNDLES)
def test_a_kill_leaves_whole_files_and_a_resumed_training_is_the_same(bundle, tmp_path):
    tiny, (resnet, network) = TINY[bundle], smallest(bundle)
    places = {name: tmp_path / place for name, place in PLACES.items()}
    common = flags(network, tiny["data"], places)
    config = train_files(bundle, *resnet)
    options = flags({**tiny["train"], "epochs": 2})
    start = time.monotonic()
    checked(monai_bundle("run", "--config_file", config, *common, *options), 0)
    usual = time.monotonic() - start
    expected = torch.load(tmp_path / "models" / "checkpoint.pt", weights_only=True)["network"]
    again = [*common, *options, *flags(ckpt_dir=tmp_path / "again")]
    for _ in killed_at_random(["run", "--config_file", config, *again], usual, seed=f"{bundle} begin"):
        whole(tmp_path / "again")
    checked(monai_bundle("run", "--config_file", config, *again, "--train#trainer#max_epochs", "1"), 0)
    for _ in killed_at_random(["run", "--config_file", config, *again, "--resume", "true"], usual, seed=bundle):
        whole(tmp_path / "again")
    checked(monai_bundle("run", "--config_file", config, *again, "--resume", "true"), 0)
    ended = torch.load(tmp_path / "again" / "checkpoint.pt", weights_only=True)["network"]
    assert all(torch.equal(expected[name], ended[name]) for name in expected)
    for name, infer in (("train", train_tiny_also), ("evaluate", evaluation), ("inference", inference)):
        for arguments in infer(bundle, tmp_path, common):
            start = time.monotonic()
            checked(monai_bundle(*arguments), 0)
            for _ in killed_at_random(arguments, time.monotonic() - start, seed=f"{bundle} {name}"):
                whole(tmp_path)
            checked(monai_bundle(*arguments), 0)
    assert not [file for file in (tmp_path / "eval").rglob("*") if ".part" in file.name or file.name == ".in-use"]


def train_tiny_also(bundle, folder, _):
    places = {name: folder / place for name, place in PLACES.items()}
    for name, options in TINY[bundle].get("also", {}).items():
        yield [
            "run",
            "--config_file",
            f"bundles/{bundle}/configs/{name}.json",
            *flags(TINY[bundle]["data"], options, places),
        ]


def evaluation(bundle, _, common):
    yield ["run", "--config_file", train_files(bundle, "evaluate", *smallest(bundle)[0]), *common]


def inference(bundle, folder, _):
    resnet, network = smallest(bundle)
    places = {"ckpt_dir": folder / "models", "output_dir": folder / "eval"}
    options = flags(network, places, TINY[bundle]["infer"], image=folder / "synthetic" / TINY[bundle]["image"])
    files = [f"bundles/{bundle}/configs/{name}.json" for name in ("inference", *resnet)]
    yield ["run", "--config_file", str(files), *options]
