"""Small, offline, one thread: what the tests share."""

from __future__ import annotations

import gc
import importlib.util
import os
import re

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path

import pytest
import torch

from common.synthetic.thyroid import ThyroidOptions, write_synthetic

torch.set_num_threads(1)
collect_ignore = [] if importlib.util.find_spec("monailabel") else ["label"]  # make test-label
ROOT = Path(__file__).resolve().parents[1]


LONGEST = ("test_train_demo", "test_bundle_contract")  # begin first, so that no process is left with them
TRAINING = {  # files whose tests train, export or start processes: not in make test-fast
    f"test_{name}"
    for name in (
        "train_demo", "bundle_contract", "export", "ranks", "on_a_gpu", "mlflow", "failures",
        "ecosystem", "detector_training", "clip_pretraining", "clip_tnseg_training", "sgf_training", "d2rnet_training",
        "akessfa_game", "deploy", "typed_text", "documented_commands", "bad_inputs",
        "reproduce", "run_page", "workers", "clip_tnseg", "dicom", "predict", "shipped_weights",
    )
}  # fmt: skip
BUNDLES = {path.name for path in (ROOT / "bundles").iterdir()}


def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()  # modules and tests stay: the collector need not look through them again and again


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.stem in TRAINING:
            item.add_marker(pytest.mark.training)
    items.sort(key=lambda item: LONGEST.index(item.path.stem) if item.path.stem in LONGEST else len(LONGEST))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """With several processes (``-n 2``), the tests of a file stay together, or those of a file and a bundle.

    ``--dist loadgroup`` would do, but its groups are lost with pytest 9.2.
    """
    from xdist.scheduler import LoadScopeScheduling

    class ByFileAndBundle(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group_of(nodeid)

    return ByFileAndBundle(config, log)


def group_of(nodeid: str) -> str:
    """``test_ranks.py sgf`` of ``tests/test_ranks.py::test_one[sgf]`` and of ``...[sgf/distill-1]``."""
    file, _, name = nodeid.partition("::")
    heads = re.split(r"[-/]", name.partition("[")[2].removesuffix("]"))
    return " ".join([Path(file).name, *[head for head in heads if head in BUNDLES][:1]])


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def synthetic(tmp_path_factory) -> Path:
    """A synthetic RATN folder with 12 reports, 64 pixels."""
    root = tmp_path_factory.mktemp("data") / "synthetic"
    write_synthetic(str(root), ThyroidOptions(reports=12, size=64, seed=3))
    return root
