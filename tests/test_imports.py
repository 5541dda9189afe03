"""One direction of imports: a bundle's code -> common -> libraries; never back, never bundle to bundle."""

import ast
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
BUNDLES = {path.parents[1].name for path in ROOT.glob("bundles/*/configs/metadata.json")}
NEVER = {"torchvision", "timm", "open_clip", "torchxrayvision", "pickle"}


FLOORS = (
    "cli.verbose", "cli.atomic", "cli.running", "cli.lock", "cli.reading", "cli.given", "cli.typed_text",
    "cli.location", "cli.trained", "cli.model_file",
    "engine.distributed", "engine.failures",
    "images", "text", "nn", "datasets", "synthetic", "transforms", "metrics", "engine", "results", "cli",
)  # fmt: skip


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


def modules_of(path: Path) -> set[str]:
    """``room.module`` of each import of ``common``."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.ImportFrom)]
    names = {f"{node.module}.{alias.name}" for node in nodes if node.module for alias in node.names}
    return {".".join(name.split(".")[1:3]) for name in names if name.startswith("common.") and name.count(".") > 1}


def floor(module: str) -> int:
    return FLOORS.index(module if module in FLOORS else module.split(".")[0])


def test_no_import_climbs_and_none_goes_in_circles():
    known = {}
    for path in (ROOT / "common").glob("*/*.py"):
        module = ".".join(path.relative_to(ROOT / "common").with_suffix("").parts)
        known[module] = modules_of(path)
        for other in known[module]:
            assert floor(other) <= floor(module), f"{module} imports {other}, of a higher floor"
    for module in known:
        assert module not in reached_from(module, known), f"{module} imports itself in a circle"


def reached_from(module: str, known: dict[str, set[str]]) -> set[str]:
    found, open_ends = set(), list(known[module])
    while open_ends:
        name = open_ends.pop()
        if name not in found:
            found.add(name)
            open_ends += known.get(name, ())
    return found
