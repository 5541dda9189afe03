"""The wheel holds all that the five bundles need, and answers without the repository; the Dockerfile fits."""

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from tests.test_bundle_contract import BUNDLES
from tests.warm import ROOT


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # building leaves folders in the sources
    for name in ("common", "bundles"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "data", "eval"))
    for name in ("README.md", "LICENSE", "setup.cfg", "pyproject.toml"):
        shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "-w", folder, source]
    subprocess.run(list(map(str, command)), check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


@pytest.mark.parametrize("bundle", BUNDLES)
def test_it_holds_each_bundle_whole(unpacked, bundle):
    configs = {path.relative_to(ROOT / "bundles" / bundle) for path in ROOT.glob(f"bundles/{bundle}/configs/**/*.json")}
    assert all((unpacked / bundle / name).is_file() for name in configs)
    content = json.loads((unpacked / bundle / "models" / "model.json").read_text())
    assert all((unpacked / bundle / "models" / name).is_file() for name in content["files"])
    assert (unpacked / bundle / "models" / "familiarity.safetensors").is_file()
    assert (unpacked / "common" / "py.typed").is_file() and not (unpacked / "tests").exists()


def test_it_answers_without_the_repository(unpacked, tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 120)).astype(np.uint8)).save(tmp_path / "a.png")
    environment = {**os.environ, "PYTHONPATH": str(unpacked), "PYTHONWARNINGS": "ignore"}

    def run(*arguments):
        return subprocess.run([sys.executable, "-m", *map(str, arguments)], cwd=tmp_path, env=environment,
                              capture_output=True, text=True)  # fmt: skip

    done = run("common.cli.predict", "akessfa", tmp_path / "a.png", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stdout + done.stderr
    config = unpacked / "akessfa" / "configs" / "inference.json"
    done = run("monai.bundle", "run", "--config_file", config, "--image", tmp_path / "a.png", "--output_dir", "again")
    assert done.returncode == 0, done.stdout + done.stderr
    first, second = (json.loads((tmp_path / name / "predictions.json").read_text()) for name in ("out", "again"))
    assert first == second


def test_the_dockerfile_copies_and_installs_what_is_there():
    text = (ROOT / "Dockerfile").read_text(encoding="utf-8").replace("\\\n", " ")
    copied = [name for line in re.findall(r"^COPY (.*)$", text, re.M) for name in line.split()[:-1]]
    assert copied and all((ROOT / name).exists() for name in copied)
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    (alone,) = re.findall(r"^WITHOUT_DEPENDENCIES := (.*)$", makefile, re.M)
    assert f"--no-deps {alone}" in text
    pinned = (ROOT / "requirements.txt").read_text(encoding="utf-8").split()
    assert re.findall(r"pip install (torch==\S+)", text) == [line for line in pinned if line.startswith("torch==")]
    entry = json.loads(re.findall(r"^ENTRYPOINT (.*)$", text, re.M)[0])
    done = subprocess.run([sys.executable, *entry[1:3], "--help"], cwd=ROOT, capture_output=True, text=True)
    assert all(flag in done.stdout for flag in entry[3:] if flag.startswith("--"))
