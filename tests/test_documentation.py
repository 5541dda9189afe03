"""What the documentation names is there: dotted paths, files, config files and the ids of their overrides."""

import importlib
import inspect
import json
import re
from pathlib import Path
from pydoc import locate

import pytest
from monai.bundle import ConfigParser

from common.cli.overrides import ALWAYS_KNOWN, is_known
from tests.format_configs import FILES

ROOT = Path(__file__).resolve().parents[1]
PLACES = ("*.md", "docs/*.md", "bundles/*/docs/*.md", "docs/*/*.md")
PAGES = [page for place in PLACES for page in sorted(ROOT.glob(place))]
CURRENT = [page for page in PAGES if page.name != "CHANGELOG.md"]
NAMES = "|".join(["common", *sorted(path.name for path in (ROOT / "bundles").iterdir())])
COMMAND = re.compile(r"monai\.bundle run ((?:[^\n`]|\\\n)*)")


def pages(found, of=CURRENT):
    """``found`` of each page, with where it stands."""
    return [pytest.param(item, id=f"{page.parent.parent.name}/{page.name}: {item}") for page in of for item in sorted(
        set(found(page)))]  # fmt: skip


def dotted(page):
    return re.findall(rf"`((?:{NAMES})(?:\.\w+)+)`", page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", pages(dotted))
def test_a_dotted_path_leads_somewhere(path):
    parts = path.split(".")
    for count in range(len(parts), 0, -1):
        try:
            part = importlib.import_module(".".join(parts[:count]))
        except ModuleNotFoundError:
            continue
        for name in parts[count:]:
            part = getattr(part, name)
        return
    raise AssertionError(path)


def commands(page):
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    return [match for match in COMMAND.findall(text) if "--config_file" in match]


@pytest.mark.parametrize("command", pages(commands))
def test_a_command_names_files_and_ids_that_exist(command):
    files = re.findall(r"bundles/[\w/]+\.json", command)
    assert files, command
    config = ConfigParser(ConfigParser.load_config_files([str(ROOT / file) for file in files]))
    for override in re.findall(r"--([\w#]+)", command.partition("--config_file")[2]):
        known = is_known(override, config) or override in (*ALWAYS_KNOWN, "run_id", "tracking")
        assert known, f"--{override} in: {command}"


@pytest.mark.parametrize("bundle", sorted(path.name for path in (ROOT / "bundles").iterdir()))
def test_each_jump_of_the_tour_begins_in_the_config(bundle):
    page = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = [line for line in page.splitlines() if line.startswith((f"| {bundle} |", f"| {bundle}, detector |"))]
    assert rows
    for row in rows:
        name = "train_detector" if "detector |" in row.split("`")[0] else "train"
        config = json.loads((ROOT / f"bundles/{bundle}/configs/{name}.json").read_text(encoding="utf-8"))
        id, target = re.findall(r"`([^`]+)`", row)[:2]
        named = json.dumps(ConfigParser(config).get(id))
        module = target.rpartition(".")[0]
        assert module in named, f"{id} of {name}.json names no part of {module}"


@pytest.mark.parametrize("config", FILES, ids=lambda path: "/".join(path.parts[-3:]))
def test_every_part_that_a_config_names_takes_the_arguments(config):
    for component in components(json.loads(config.read_text(encoding="utf-8"))):
        target = locate(component["_target_"])
        assert target is not None, component["_target_"]
        parameters = inspect.signature(target).parameters
        names = {name for name in component if not name.startswith("_")}
        anything = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
        assert anything or names <= parameters.keys(), (component["_target_"], names - parameters.keys())


def components(value):
    """Every part of a config with a dotted path of ours."""
    if isinstance(value, dict) and re.match(rf"({NAMES})\.", str(value.get("_target_"))):
        yield value
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from components(part)
