"""One direction of imports: a bundle's code -> common -> libraries; never back, never bundle to bundle."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUNDLES = {path.parents[1].name for path in ROOT.glob("bundles/*/configs/metadata.json")}
NEVER = {"torchvision", "timm", "open_clip", "torchxrayvision", "pickle"}


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names.add((node.module or "").split(".")[0])
    return names


def test_common_knows_no_bundle():
    for path in (ROOT / "common").rglob("*.py"):
        assert not imported(path) & (BUNDLES | {"benchmarks", "tests"}), path


def test_a_bundle_knows_common_and_itself():
    assert BUNDLES
    for bundle in BUNDLES:
        for path in (ROOT / "bundles" / bundle).rglob("*.py"):
            assert not imported(path) & (BUNDLES | {"benchmarks", "tests"}), path


def test_libraries_that_never_come_in():
    for folder in ("common", "bundles", "benchmarks"):
        for path in (ROOT / folder).rglob("*.py"):
            assert not imported(path) & NEVER, path
