"""What ``python -m monai.bundle`` lacks: texts as typed, unknown overrides refused, bad input as one line."""

from __future__ import annotations

import difflib
import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from pydoc import locate

from fire.parser import DefaultParseValue
from monai import bundle
from monai.bundle.utils import DEFAULT_EXP_MGMT_SETTINGS

from common.cli.errors import speak_plainly
from common.cli.given import require_weights
from common.cli.location import bundle_root
from common.cli.model_file import adopt, adopt_detector
from common.cli.running import running_parser
from common.cli.typed_text import deliver, deliver_record, is_none, is_record, is_text, leaves, put, texts_of, typed
from common.cli.typed_values import example_of, typed_values
from common.cli.verbose import is_verbose, speak_of_everything

VERBOSE = "verbose"  # --verbose true: what common.cli.verbose leaves out
ALWAYS_KNOWN = ("bundle_root", "workflow_name", VERBOSE)  # set whether or not a config reads them


def check_command_line() -> None:
    """Deliver texts and paths as they were typed, refuse an override that names no id, print bad input as one line.

    Called as MONAI first evaluates something (:mod:`common.cli.at_start`), and again before a config runs, for where
    ``common`` could not be imported by then. Does nothing when the process is not ``python -m monai.bundle`` (Python
    callers, pytest, MONAI Label).

    Raises:
        SystemExit: one line with the unknown id and the nearest known one, or with a text that is missing.
        FileNotFoundError, ValueError: ``--ckpt_file`` of an export is no file of weights.
    """
    if Path(sys.argv[0]).parts[-3:] != ("monai", "bundle", "__main__.py"):
        return
    speak_plainly()
    arguments = sys.argv[2:]
    given = typed(arguments)
    flags = {**_of_args_file(given.pop("args_file", None)), **given}
    _listen(flags)
    config = bundle.ConfigParser(_config_of(flags))
    if sys.argv[1:2] == ["run"]:
        for override in flags.keys() - inspect.signature(bundle.run).parameters:
            _check_override(override, config)
    if flags.get("ckpt_file"):
        require_weights(str(flags["ckpt_file"]), id="ckpt_file")
    parser = running_parser()
    if parser is not None:
        values = dict(leaf for id, value in flags.items() for leaf in leaves_of(id, value, config))
        for id, value in typed_values({id: values[id] for id in values if id in parser}, config).items():
            put(parser, id, value)
        taken = {id for id in values if is_text(id, config.get(id)) or is_record(id, values[id])}
        texts = texts_of({id: values[id] for id in values if id in taken and id in parser}, arguments)
        deliver(parser, texts)
        for id in taken:
            if id in parser and is_none(id, values[id]):
                put(parser, id, None)  # MONAI leaves the config's own value
        if "output_dir" in texts and "tracking" in flags:
            deliver_record(parser, texts["output_dir"])
        weights = _weights_of(parser, texts | {"ckpt_file": str(flags.get("ckpt_file") or "")})
        if weights is not None:
            adopt(parser, values, weights=weights, only_network=_is_fine_tuned(parser) and "weights" not in parser)
        if "detector_weights" in parser:
            adopt_detector(parser, values, weights=_path_at("detector_weights", parser, texts))


def _listen(flags: Mapping[str, object]) -> None:
    """Bring back what libraries say, once, if ``--verbose`` asks for it."""
    asked = typed_values({VERBOSE: flags.get(VERBOSE, False)}, bundle.ConfigParser({VERBOSE: False}))
    if asked[VERBOSE] and not is_verbose():  # the second check of a command finds it said
        speak_of_everything()


def leaves_of(id: str, value: object, config: bundle.ConfigParser) -> Iterator[tuple[str, object]]:
    """Yield ``id`` and ``value``, whole where the config holds a list there; else each leaf of a dict or a list."""
    if isinstance(example_of(id, config), list):
        yield id, value
    else:
        yield from leaves(id, value)


def _weights_of(parser: bundle.ConfigParser, texts: Mapping[str, str]) -> str | None:
    """File of the trained network that a command goes on from; None: it goes on from none."""
    if sys.argv[1:2] != ["run"]:
        return texts["ckpt_file"] or None
    if "weights" in parser:
        return _path_at("weights", parser, texts)
    if _is_fine_tuned(parser):
        return f"{_path_at('pretrained', parser, texts)}/model.pt"
    return f"{_path_at('ckpt_dir', parser, texts)}/model.pt" if parser.get("resume") is True else None


def _is_fine_tuned(parser: bundle.ConfigParser) -> bool:
    """Whether a training starts from another's network."""
    return "pretrained" in parser and parser.get("pretrained") is not None and parser.get("resume") is not True


def _path_at(id: str, parser: bundle.ConfigParser, texts: Mapping[str, str]) -> str:
    """The path at ``id``: as it was typed, or of the form ``$@folder + '/name'`` that the configs give theirs."""
    if id in texts:
        return texts[id]
    value = parser.get(id)
    if id == "bundle_root" and isinstance(value, dict):
        return bundle_root(value["name"])
    within = re.fullmatch(r"\$@(\w+) \+ '([^']*)'", str(value))
    return str(value) if within is None else _path_at(within[1], parser, texts) + within[2]


def _of_args_file(file: str | None) -> dict:
    return {} if file is None else bundle.ConfigParser.load_config_file(file)


def _config_of(flags: dict) -> dict:
    """The config files of a command line, merged, without its overrides."""
    files = flags.get("config_file", {})
    config = bundle.ConfigParser.load_config_files(DefaultParseValue(files) if isinstance(files, str) else files)
    return {**_of_tracking(flags.get("tracking")), **config}


def _of_tracking(tracking: str | dict | None) -> dict:
    """The ids that ``--tracking`` adds to a config: MONAI's name of a tracker, a file of settings, or the settings."""
    if isinstance(tracking, str):
        known: dict | None = DEFAULT_EXP_MGMT_SETTINGS.get(tracking)
        tracking = bundle.ConfigParser.load_config_file(tracking) if known is None else known
    return (tracking or {}).get("configs", {})


def is_known(override: str, parser: bundle.ConfigParser) -> bool:
    """Whether an override names an id of the config, or an argument that one of its components takes."""
    return (
        override in parser
        or override in ALWAYS_KNOWN
        or override.startswith("_meta_")
        or _is_argument(override, parser)
    )


def _check_override(override: str, parser: bundle.ConfigParser) -> None:
    if is_known(override, parser):
        return
    ids = list(_ids(parser.get()))
    nearest = difflib.get_close_matches(override.replace("::", "#"), ids, n=1, cutoff=0.0)[0]
    raise SystemExit(f"--{override}: the config files have no such id; the nearest is --{nearest}")


def _is_argument(override: str, parser: bundle.ConfigParser) -> bool:
    """Whether ``override`` adds an argument that its component's ``_target_`` takes: ``network_def#dropout``."""
    parent, _, name = override.replace("::", "#").rpartition("#")
    component = parser.get(parent) if parent else None
    if not bundle.ConfigComponent.is_instantiable(component):
        return False
    target = locate(bundle.ConfigComponent(component, locator=parser.locator).resolve_module_name())
    parameters = inspect.signature(target).parameters.values()  # type: ignore[arg-type]
    return any(p.name == name or p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)


def _ids(config: object, prefix: str = "") -> Iterator[str]:
    """Yield every id of ``config`` whose last part is a name: ``epochs``, ``train#dataloader#batch_size``, ..."""
    items = config.items() if isinstance(config, dict) else enumerate(config) if isinstance(config, list) else ()
    for key, value in items:
        if isinstance(key, str):
            yield prefix + key
        yield from _ids(value, f"{prefix}{key}#")
