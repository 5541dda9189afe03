"""MONAI's commands in one new process, where only the packages that a bundle's metadata.json names can be imported.

``python named_packages.py COMMANDS`` in a bundle's folder; ``COMMANDS`` is a list of arguments for each, as JSON.
Nothing of the repository is there but what lies in the folder; the last lines say where the code came from.
"""

import importlib.abc
import importlib.metadata
import json
import os
import re
import runpy
import sys
from importlib.machinery import PathFinder
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def plain(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def needed(names):
    """Packages by these names and what they need in turn, without extras."""
    found, left = set(), [plain(name) for name in names]
    while left:
        name = left.pop()
        if name in found:
            continue
        found.add(name)
        try:
            requirements = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        left += [plain(re.match(r"[\w.-]+", line)[0]) for line in requirements if "extra ==" not in line]
    return found


class OnlyNamed(importlib.abc.MetaPathFinder):
    """What is installed, without what is not ``allowed``: as if it were not there."""

    find_distributions = staticmethod(PathFinder.find_distributions)

    def __init__(self, allowed, own):
        self.allowed, self.own = allowed, {*own, *sys.builtin_module_names, *sys.stdlib_module_names}
        self.owners = importlib.metadata.packages_distributions()

    def blocks(self, name):
        top = name.partition(".")[0]
        known = top in self.owners and top not in self.own
        return known and not {plain(part) for part in self.owners[top]} & self.allowed

    def find_spec(self, name, path=None, target=None):
        return None if self.blocks(name) else PathFinder.find_spec(name, path, target)


def main():
    here = Path.cwd()
    metadata = json.loads((here / "configs" / "metadata.json").read_text())
    names = ["torch", "monai", "numpy", "fire", *metadata["required_packages_version"]]
    only = OnlyNamed(needed(names), ["common", here.name])
    for name in [name for name in sys.modules if only.blocks(name)]:
        del sys.modules[name]
    others = [finder for finder in sys.meta_path if "editable" not in getattr(finder, "__module__", "")]
    sys.meta_path = [only if finder is PathFinder else finder for finder in others]
    sys.path = [os.getcwd(), *(path for path in sys.path[1:] if Path(path) != ROOT)]
    for arguments in json.loads(sys.argv[1]):
        sys.argv = ["monai.bundle", *arguments]
        sys.modules.pop("common.cli.at_start", None)  # a new process has not imported it
        runpy.run_module("monai.bundle", run_name="__main__", alter_sys=True)
    for name in ("common", here.name):
        sys.stdout.write(f"LOADED {name} {sys.modules[name].__file__}\n")


if __name__ == "__main__":
    main()
