"""metadata.json names every package that a bundle needs: with all others blocked it trains, evaluates and infers."""

import json
import os
import subprocess
import sys

import pytest

from tests.test_bundle_contract import BUNDLES, PLACES, ROOT, TINY

PROGRAM = r'''
import importlib.abc, importlib.metadata, json, re, sys
from importlib.machinery import PathFinder
bundle, root, folder, options = sys.argv[1], sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
metadata = json.load(open(f"{root}/bundles/{bundle}/configs/metadata.json"))
named = ["torch", "monai", "numpy", *metadata["required_packages_version"]]

def plain(name):
    return re.sub(r"[-_.]+", "-", name).lower()

allowed, left = set(), [plain(name) for name in named]
while left:
    name = left.pop()
    if name in allowed:
        continue
    allowed.add(name)
    try:
        needed = importlib.metadata.requires(name) or []
    except importlib.metadata.PackageNotFoundError:
        continue
    left += [plain(re.match(r"[\w.-]+", line)[0]) for line in needed if "extra ==" not in line]
owners = importlib.metadata.packages_distributions()
OWN = {"common", bundle, "tests", "benchmarks", "label_app", *sys.builtin_module_names, *sys.stdlib_module_names}

def blocked(name):
    top = name.partition(".")[0]
    return top in owners and top not in OWN and not {plain(part) for part in owners[top]} & allowed

class OnlyNamed(importlib.abc.MetaPathFinder):
    """What is installed, without what metadata.json does not name: as if it were not there."""

    find_distributions = PathFinder.find_distributions

    @staticmethod
    def find_spec(name, path=None, target=None):
        return None if blocked(name) else PathFinder.find_spec(name, path, target)

for name in [name for name in sys.modules if blocked(name)]:
    del sys.modules[name]
sys.meta_path = [OnlyNamed if finder is PathFinder else finder for finder in sys.meta_path]
import torch
torch.set_num_threads(1)
from monai.bundle import ConfigWorkflow
for files, more in options:
    workflow = ConfigWorkflow(
        config_file=[f"{root}/bundles/{bundle}/configs/{name}.json" for name in files], workflow_type="train",
        logging_file=False, **more)
    workflow.initialize()
    workflow.run()
print("RAN", bundle)
'''


@pytest.mark.parametrize("bundle", BUNDLES)
def test_a_bundle_needs_no_package_that_its_metadata_do_not_name(bundle, tmp_path):
    tiny = TINY[bundle]
    places = {name: str(tmp_path / place) for name, place in PLACES.items()}
    common = {**tiny["network"], **tiny["data"], **places}
    runs = [[["train"], {**common, **tiny["train"], "epochs": 1}], [["train", "evaluate"], common]]
    runs += [[[name], {**tiny["data"], **places, **own, "epochs": 1}] for name, own in tiny.get("also", {}).items()]
    image = {"image": str(tmp_path / "synthetic" / tiny["image"]), **tiny["infer"]}
    inference = {**tiny["network"], **image, "ckpt_dir": places["ckpt_dir"], "output_dir": str(tmp_path / "out")}
    for own in tiny.get("also", {}).values():  # Python callers name a detector's sizes themselves
        sizes = {id: value for id, value in own.items() if id.startswith("network_def#")}
        inference |= {id.replace("network_def", "detector_def"): value for id, value in sizes.items()}
    runs.append([["inference"], inference])
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, bundle, str(ROOT), str(tmp_path), json.dumps(runs)]
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0 and f"RAN {bundle}" in done.stdout, done.stderr[-3000:]


@pytest.mark.parametrize("bundle", BUNDLES)
def test_metadata_name_the_versions_that_are_required(bundle):
    metadata = json.loads((ROOT / "bundles" / bundle / "configs" / "metadata.json").read_text())
    lines = (ROOT / "requirements.txt").read_text().split()
    pinned = dict(line.split("==") for line in lines)
    named = {**metadata["required_packages_version"], **metadata.get("optional_packages_version", {})}
    assert {name: pinned.get(name) for name in named} == named
