"""Small, offline, one thread: what the tests share."""

from __future__ import annotations

import importlib.util
import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_NUM_THREADS", "1")

from pathlib import Path

import pytest
import torch

from common.synthetic.thyroid import Options, write_synthetic

torch.set_num_threads(1)
collect_ignore = [] if importlib.util.find_spec("monailabel") else ["label"]  # make test-label
ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def synthetic(tmp_path_factory) -> Path:
    """A synthetic RATN folder with 12 reports, 64 pixels."""
    root = tmp_path_factory.mktemp("data") / "synthetic"
    write_synthetic(str(root), Options(reports=12, size=64, seed=3))
    return root
