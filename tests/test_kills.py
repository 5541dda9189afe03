"""Commands that are killed at any moment leave whole files, and a training that goes on ends as if it had not been."""

import csv
import json
import os
import random
import signal
import subprocess
import time

import psutil
import pytest
import torch
from PIL import Image

from tests.test_bundle_contract import BUNDLES, PLACES, TINY, checked, flags, smallest, train_files
from tests.warm import Running, monai_bundle, on_ranks

MOMENTS = int(os.environ.get("MOMENTS", "1"))  # kills of each command, between its start and its usual end


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
    stopped_and_resumed(["run", "--config_file", config, *common, *options], tmp_path, step=3)
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


def stopped_and_resumed(arguments, folder, *, step):
    """A training that gets SIGTERM in its ``step`` ends with 143, and goes on as if it had not."""
    models = folder / "stopped"
    stopped = monai_bundle(*arguments, "--ckpt_dir", models, before=lambda: stop_in(step))
    assert stopped.returncode == 143 and "stopped by SIGTERM" in stopped.stderr, stopped.stderr
    checked(monai_bundle(*arguments, "--ckpt_dir", models, "--resume", "true"), 0)
    compare(folder / "models", models)


def compare(expected, models):
    """Two trainings that ended alike: every tensor of their states, and every number of their histories."""
    (history,) = expected.glob("*history.csv")
    assert (models / history.name).read_text() == history.read_text()
    (checkpoint,) = expected.glob("*checkpoint.pt")
    states = [torch.load(folder / checkpoint.name, weights_only=True) for folder in (expected, models)]
    assert states[0].pop("processes") == states[1].pop("processes") == []
    pairs = zip(*map(values_of, states), strict=True)
    assert all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in pairs)


def values_of(state):
    if isinstance(state, dict | list | tuple):
        for part in state.values() if isinstance(state, dict) else state:
            yield from values_of(part)
    else:
        yield state


def stop_in(step):
    """Send SIGTERM to this process and those that load for it, as ``step`` ends."""
    from common.engine.state import TrainingState

    within = TrainingState._within

    def stopped(self, engine):
        if engine.state.iteration == step:
            everyone = (*psutil.Process().children(recursive=True), psutil.Process())
            subprocess.run(["kill", *(str(process.pid) for process in everyone)], check=True)  # as a cluster does
        within(self, engine)

    TrainingState._within = stopped


def killed_as_validation_begins():
    """End this process as its first epoch is validated, whose end was saved."""
    from common.engine import handlers, state

    state.LONG = 0.0
    handlers.ValidateEvery.__call__ = lambda *_: os._exit(9)


def test_an_epoch_that_was_saved_before_its_validation_is_validated_when_it_goes_on(tmp_path):
    tiny = TINY["akessfa"]
    common = flags(tiny["network"], tiny["data"], {**tiny["train"], "cache": "none"}, output_dir=tmp_path / "eval")
    arguments = ["run", "--config_file", train_files("akessfa"), *common, "--synthetic_dir", tmp_path / "synthetic"]
    checked(monai_bundle(*arguments, "--ckpt_dir", tmp_path / "whole"), 0)
    killed = [*arguments, "--ckpt_dir", tmp_path / "killed"]
    assert monai_bundle(*killed, before=killed_as_validation_begins).returncode == 9
    checked(monai_bundle(*killed, "--resume", "true", "--cache", "disk", "--cache_dir", tmp_path / "cache"), 0)
    compare(tmp_path / "whole", tmp_path / "killed")


def test_a_detector_that_is_stopped_goes_on_as_if_it_had_not_been(tmp_path):
    (tiny,) = TINY["d2rnet"]["also"].values()
    places = {name: tmp_path / place for name, place in PLACES.items()}
    common = flags(tiny, TINY["d2rnet"]["data"], places, labelled_share=0.5, accumulate=2, num_workers=1)
    arguments = ["run", "--config_file", "bundles/d2rnet/configs/train_detector.json", *common]
    checked(monai_bundle(*arguments), 0)
    stopped_and_resumed(arguments, tmp_path, step=3)  # saved after the fourth, which ends its group


def stop_second_process_in(step):
    """Send SIGTERM to one of two processes alone."""
    if os.environ["RANK"] == "1":
        stop_in(step)


def test_two_processes_of_which_one_is_stopped_go_on_together(tmp_path):
    tiny = TINY["akessfa"]
    options = {**tiny["train"], "epochs": 3, "batch_size": 2, "output_dir": tmp_path / "eval"}
    arguments = ["run", "--config_file", train_files("akessfa"), *flags(tiny["network"], tiny["data"], options)]
    arguments += ["--synthetic_dir", tmp_path / "synthetic"]
    assert [run.returncode for run in on_ranks(2, *arguments, "--ckpt_dir", tmp_path / "whole")] == [0, 0]
    length = torch.load(tmp_path / "whole" / "checkpoint.pt", weights_only=True)["trainer"]["epoch_length"]
    stopped = [*arguments, "--ckpt_dir", tmp_path / "stopped"]
    ended = on_ranks(2, *stopped, before=lambda: stop_second_process_in(length + 1))  # after a first save
    assert [run.returncode for run in ended] == [143, 143], [run.stderr[-500:] for run in ended]
    state = torch.load(tmp_path / "stopped" / "checkpoint.pt", weights_only=True)
    assert state["trainer"]["iteration"] > length and len(state["processes"]) == 2
    assert [run.returncode for run in on_ranks(2, *stopped, "--resume", "true")] == [0, 0]
    compare(tmp_path / "whole", tmp_path / "stopped")


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
