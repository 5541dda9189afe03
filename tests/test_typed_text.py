"""Texts and paths of the command line: whatever a hostile or careless user types arrives as it was typed."""

import json
import re
import sys
from pathlib import Path

import fire
import pytest
from monai.bundle import ConfigParser, ConfigWorkflow

from common.cli.typed_text import deliver, is_text, leaves, literal, texts_of, typed
from common.cli.typed_values import CHOICES as NAMED_CHOICES
from common.cli.typed_values import typed_values
from tests.warm import ROOT, monai_bundle

CONFIGS = sorted(ROOT.glob("bundles/*/configs/**/*.json"))
WHOLE = [path for path in CONFIGS if "imports" in json.loads(path.read_text()) and "+imports" not in path.read_text()]
VALUES = [
    "$__import__('os').system('touch PWNED')", "$import antigravity", "$import this report", "@bundle_root", "@nothing",
    "%epochs", "1.2, 3.4", "solid, hypoechoic", "#2", "run#2", "a::b", "12", "1e5", "True", "[1, 2]", "{a: b}",
    "No. 3 (left): '5 mm' \"solid\" \\n {x}", "中文，报告", "  ", "a" * 20_000,
]  # fmt: skip
ONE_LINE = re.compile(r"(\w+Error: |--)\S.*")


CHOICES = {  # texts of a config that its author chooses and no user types
    "analyzer", "id", "key", "keys", "metric", "metric_name", "orig_keys",
}  # fmt: skip


def plain_texts(config, prefix=""):
    """Ids whose value is a text, or an expression that makes a path."""
    items = config.items() if isinstance(config, dict) else enumerate(config) if isinstance(config, list) else ()
    for key, value in items:
        plain = isinstance(value, str) and (value[:1] not in ("$", "@", "%") or re.search(r"\+ '[/_]", value))
        if isinstance(key, str) and key[0] != "_" and plain and key.split("#")[-1] not in CHOICES | {"_target_"}:
            yield f"{prefix}{key}", value
        yield from plain_texts(value, f"{prefix}{key}#")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: f"{path.parents[1].name}-{path.stem}")
def test_no_text_of_a_config_is_missed(path):
    config = ConfigParser.load_config_file(path) if path.stem != "metadata" else {}
    missed = [id for id, value in plain_texts(config) if not is_text(id, value)]
    named = [name for name in ("code_root", "program", "onnx") if name in config and not is_text(name, config[name])]
    assert not missed + named


def test_texts_inside_a_dict_or_a_list_are_texts():
    code = "$__import__('os').system('touch PWNED')"
    given = dict(leaves("synthetic", f'{{"language": "{code}", "seed": 3}}'))
    assert given == {"synthetic::language": code, "synthetic::seed": 3}
    assert dict(leaves("report", "[1, 2]")) == {"report": "[1, 2]"} and dict(leaves("epochs", "3")) == {"epochs": "3"}
    config = f"{ROOT}/bundles/hfcn/configs/train.json"
    done = monai_bundle("run", f"--config_file={config}", f'--synthetic={{"language": "{code}"}}', cwd=ROOT / "tests")
    assert done.returncode == 1 and not (ROOT / "tests" / "PWNED").exists()


def text_ids(config, prefix=""):
    """Ids of texts and paths that a config has, nested ones included."""
    items = config.items() if isinstance(config, dict) else enumerate(config) if isinstance(config, list) else ()
    for key, value in items:
        id = f"{prefix}{key}"
        if isinstance(key, str) and key[0] != "_" and is_text(id, value) and key not in NAMED_CHOICES:
            yield id
        yield from text_ids(value, f"{id}#")


@pytest.mark.parametrize("path", WHOLE, ids=lambda path: f"{path.parents[1].name}-{path.stem}")
def test_every_text_of_every_config_is_what_was_typed(path, monkeypatch, tmp_path):
    """MONAI's own way from the command line to the value, with every value in every text or path."""
    monkeypatch.chdir(tmp_path)
    ids = [id for id in text_ids(ConfigParser.load_config_file(path)) if id.split("#")[0] != "bundle_root"]
    assert len(ids) >= 4
    for value in VALUES:
        arguments = [f"--{id}={value}" for id in ids if value.strip()]
        given = {}
        fire.Fire(lambda given=given, **flags: given.update(flags), command=arguments)
        root = str(path.parents[1])
        given = {"bundle_root": root, **given}
        try:
            workflow = ConfigWorkflow(config_file=str(path), workflow_type="train", logging_file=False, **given)
            workflow.parser.parse()
        except KeyError:
            assert value.startswith("%")  # refused by MONAI before any code of a bundle is loaded
            continue
        command = ["/x/monai/bundle/__main__.py", "run", "--config_file", str(path), f"--bundle_root={root}"]
        monkeypatch.setattr(sys, "argv", command + arguments)
        monkeypatch.setattr(sys, "excepthook", sys.excepthook)
        monkeypatch.delitem(sys.modules, "common.cli.at_start", raising=False)
        workflow.parser.get_parsed_content("imports")
        for id in ids if value.strip() else ():
            assert workflow.parser.get_parsed_content(id) == value, id
    assert not list(tmp_path.iterdir()) and "antigravity" not in sys.modules


@pytest.mark.parametrize("value", [value for value in VALUES if value.strip()])
def test_a_choice_is_one_of_its_words(value):
    config = ConfigParser({name: words[0] for name, words in NAMED_CHOICES.items()})
    for name, words in NAMED_CHOICES.items():
        assert typed_values({name: words[-1]}, config) == {name: words[-1]}
        with pytest.raises(SystemExit, match=f"--{name}: .* is none of {words[0]}"):
            typed_values({name: value}, config)


@pytest.mark.parametrize("path", WHOLE, ids=lambda path: f"{path.parents[1].name}-{path.stem}")
@pytest.mark.parametrize(
    "value", ["$__import__('os').system('touch PWNED')", "$import antigravity x", "@epochs", "a#b"]
)
def test_a_command_with_hostile_values_ends_in_one_line(path, value, tmp_path):
    config = ConfigParser.load_config_file(path)
    ids = [id for id in text_ids(config) if "#" not in id and id not in ("bundle_root", "output_dir", "ckpt_dir")]
    places = [f"--{name}={tmp_path / name}" for name in ("output_dir", "ckpt_dir") if name in config]
    done = monai_bundle("run", f"--config_file={path}", *places, *(f"--{id}={value}" for id in ids), cwd=tmp_path)
    lines = [line for line in done.stderr.splitlines() if line.strip() and "UserWarning" not in line]
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr[-1500:]
    assert ONE_LINE.fullmatch(lines[-1]), lines[-1]
    assert not (tmp_path / "PWNED").exists()


def test_flags_are_paired_as_fire_pairs_them():
    assert typed(["--a", "1, 2", "--b=True", "--c-d", "x", "--e"]) == {
        "a": "1, 2",
        "b": "True",
        "c_d": "x",
        "e": "True",
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--report"], r"--report: its value is missing"),
        (["--report", "--image", "x.png"], r"--report: its value is missing"),
        (["--output_dir="], r"--output_dir: '' is empty"),
    ],
)
def test_a_missing_value_is_named(arguments, message):
    with pytest.raises(SystemExit, match=message):
        texts_of(typed(arguments), arguments)


def test_a_list_in_an_arguments_file_is_no_text():
    with pytest.raises(SystemExit, match=r"--image: \['a'\] is no text"):
        texts_of({"image": ["a"]}, [])


def test_a_path_none_is_none_and_a_report_none_is_a_word():
    arguments = ["--image", "None", "--report", "None", "--epochs", "3"]
    assert texts_of(typed(arguments), arguments) == {"report": "None", "epochs": "3"}


@pytest.mark.parametrize("text", [*VALUES, "", "'", "\\", "$'x'", "\u2028", "😀"])
def test_a_literal_is_its_text_to_monai(text):
    parser = ConfigParser({"a": literal(text), "b": {"c": literal(text)}})
    assert parser.get_parsed_content("a") == text and parser.get_parsed_content("b") == {"c": text}


def test_texts_of_an_arguments_file_arrive_too(tmp_path):
    values = {"weights": "$__import__('os').system('touch PWNED')", "image": "@epochs"}
    (tmp_path / "arguments.json").write_text(json.dumps(values))
    config = ROOT / "bundles" / "hfcn" / "configs" / "inference.json"
    done = monai_bundle("run", "--config_file", config, "--args_file", "arguments.json", cwd=tmp_path)
    assert done.returncode == 1 and "weights: no file" in done.stderr and "touch PWNED" in done.stderr
    assert not (tmp_path / "PWNED").exists()


def test_a_text_may_stand_in_a_file(tmp_path):
    from clip_tnseg.data import list_cases as clip_cases
    from PIL import Image

    from akessfa.data import list_cases as akessfa_cases

    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    (tmp_path / "text.txt").write_text("$5, @a #2\n", encoding="utf-8")
    image, text = str(tmp_path / "a.png"), str(tmp_path / "text.txt")
    assert akessfa_cases(image=image, report=text, data_dir=None)[0]["report"] == "$5, @a #2\n"
    assert clip_cases(image=image, phrase=text, data_dir=None)[0]["phrase"] == "$5, @a #2"
    with pytest.raises(FileNotFoundError, match=r"phrase: no file 'no.txt'"):
        clip_cases(image=image, phrase="no.txt", data_dir=None)


def test_configs_check_the_command_line_first():
    for path in WHOLE:
        assert json.loads(Path(path).read_text())["imports"][0] == "$import common.cli.at_start", path


def test_a_text_inside_a_part_that_a_text_replaces_is_refused():
    parser = ConfigParser({"bundle_root": "x"})
    parser.parse()
    with pytest.raises(SystemExit, match=r"--bundle_root#name: --bundle_root replaces the part that it belongs to"):
        deliver(parser, {"bundle_root#name": "y"})
