"""What keeps the house in order is counted: lines of files, of functions and of configs, and their form."""

import ast
import json
import re
import subprocess
from pathlib import Path

import pytest

from tests.format_configs import FILES, formatted

ROOT = Path(__file__).resolve().parents[1]
CODE = sorted(
    path for folder in ("common", "bundles", "label_app", "benchmarks") for path in (ROOT / folder).rglob("*.py")
)
CONFIGS = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in FILES}
FLAT = {"__init__.py", "pack.py", "predict.py", "visualize.py"}  # of common: the map of its rooms, and two commands

TOP = {
    *("bundles", "common", "tests", "label_app", "benchmarks", "docs"),
    *("README.md", "CHANGELOG.md", "CITATION.cff", "CONTRIBUTING.md", "LICENSE", "Dockerfile", "Makefile"),
    *("pyproject.toml", "requirements.txt", "requirements-label.txt", "setup.cfg"),
}


def functions():
    for path in CODE:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield f"{path.relative_to(ROOT)}: {node.name}", node.end_lineno - node.lineno + 1


def test_the_top_level_stays():
    """What a command wrote beside the code is not committed with it."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert {name.split("/")[0] for name in listed.splitlines() if not name.startswith(".")} <= TOP


def test_no_file_has_more_than_300_lines():
    lines = {path.relative_to(ROOT): len(path.read_text(encoding="utf-8").splitlines()) for path in CODE}
    assert not {name: count for name, count in lines.items() if count > 300}


def test_no_function_has_more_than_50_lines_and_half_have_at_most_12():
    lengths = dict(functions())
    assert not {name: count for name, count in lengths.items() if count > 50 and "__init__" not in name}
    assert sorted(lengths.values())[len(lengths) // 2] <= 12


def test_common_is_rooms():
    assert {path.name for path in (ROOT / "common").glob("*.py")} == FLAT
    for package in (path.parent for path in CODE if path.name == "__init__.py" and "common" in path.parts):
        assert ast.get_docstring(ast.parse((package / "__init__.py").read_text(encoding="utf-8"))), package


def test_configs_are_short():
    assert sum(CONFIGS.values()) <= 2300
    assert max(CONFIGS.values()) <= 163 and all(n <= 110 for path, n in CONFIGS.items() if path.stem == "inference")


@pytest.mark.parametrize("config", FILES, ids=lambda path: "/".join(path.parts[-3:]))
def test_configs_have_one_form(config):
    text = config.read_text(encoding="utf-8")
    assert text == formatted(json.loads(text)) + "\n", "run python -m tests.format_configs"


@pytest.mark.parametrize("config", FILES, ids=lambda path: "/".join(path.parts[-3:]))
def test_no_logic_in_configs(config):
    content = json.loads(config.read_text(encoding="utf-8"))
    content.pop("imports", None)  # finds the bundle's folder before any code of ours can be imported
    expressions = [text for text in texts_of(content) if text.startswith("$")]
    assert not [text for text in expressions if any(word in text for word in (" for ", " if ", "lambda", "sleep"))]


def texts_of(value):
    if isinstance(value, dict | list):
        for part in value.values() if isinstance(value, dict) else value:
            yield from texts_of(part)
    elif isinstance(value, str):
        yield value


SECTIONS = ["Description", "Data", "Inputs and outputs", "Performance", "Limits", "Commands", "References", "License"]


@pytest.mark.parametrize("card", sorted(ROOT.glob("bundles/*/docs/README.md")), ids=lambda card: card.parts[-3])
def test_a_card_is_short_and_in_one_form(card):
    text = card.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 120
    assert re.findall(r"^## (.*)$", text, re.M) == SECTIONS
    assert text.startswith("---\nlicense: apache-2.0\nlibrary_name: monai\npipeline_tag: ")
    assert (card.parent / "details.md").is_file() and "](details.md)" in text


PACKAGES = [path.parent for path in CODE if path.name == "__init__.py"]


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: str(package.relative_to(ROOT)))
def test_a_package_says_what_each_of_its_modules_is(package):
    told = ast.get_docstring(ast.parse((package / "__init__.py").read_text())) or ""
    modules = {file.stem for file in package.glob("*.py")} - {"__init__"}
    modules |= {file.parent.name for file in package.glob("*/__init__.py")}
    assert not {name for name in modules if not re.search(rf"\b{name}\b", told)}
