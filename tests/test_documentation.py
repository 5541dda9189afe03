"""What the documentation names is there: dotted paths, files, config files and the ids of their overrides."""

import importlib
import inspect
import json
import re
from itertools import pairwise
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


BUNDLES = sorted(path.name for path in (ROOT / "bundles").iterdir())


def tour():
    """The rows of CONTRIBUTING.md that lead from a config to an equation: bundle, config, id, names on the way."""
    for line in (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] in BUNDLES and len(cells) == 4:
            (config, id), way = (re.findall(r"`([^`]+)`", cell) for cell in cells[1:3])
            yield pytest.param(cells[0], config, id, way, id=f"{cells[0]}: {' '.join(way)}")


def test_the_tour_visits_each_bundle():
    assert {row.values[0] for row in tour()} == set(BUNDLES)


@pytest.mark.parametrize(("bundle", "config", "id", "way"), tour())
def test_each_name_of_the_tour_stands_in_the_source_of_the_one_before(bundle, config, id, way):
    assert len(way) <= 3
    names = dict.fromkeys(("train.json", config))  # most others are merged over it
    files = [ROOT / f"bundles/{bundle}/configs/{name}" for name in names]
    parser = ConfigParser(ConfigParser.load_config_files([str(file) for file in files]))
    target, _ = owner_and_method(way[0])
    assert f'"_target_": "{target}"' in json.dumps(parser.get(id)), f"{id} of {config} does not name {target}"
    for before, name in pairwise(way):
        source = inspect.getsource(locate(before))
        for word in words_of(name, before):
            assert re.search(rf"\b{word}\b", source), f"{before} says nothing of {word}"


def words_of(name, before):
    """What a source names that leads to ``name``: its class or function, and a method other than ``forward``."""
    target, method = owner_and_method(name)
    if target == owner_and_method(before)[0]:
        return [method]
    return [target.rpartition(".")[2]] + ([method] if method not in (None, "forward") else [])


def owner_and_method(name):
    """The function or class of a dotted name, and the method where it names one."""
    owner = name.rpartition(".")[0]
    return (owner, name.rpartition(".")[2]) if inspect.isclass(locate(owner)) else (name, None)


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
