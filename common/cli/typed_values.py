"""Switches, numbers, sizes and choices of the command line: of the kind of the config's own value, and in range.

Fire hands ``false`` over as a text, which Python takes for true, and ``2e3`` as a number that no count can be.
"""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Mapping
from pydoc import locate
from typing import Any

import torch
from fire.parser import DefaultParseValue
from monai.bundle import ConfigComponent, ConfigParser, ReferenceResolver

from common.engine.precision import HALVES

MANY = 1_000_000
RANGES: dict[str, tuple[float, float]] = {
    **dict.fromkeys(("epochs", "max_epochs", "val_interval", "batch_size", "accumulate", "val_studies"), (1, MANY)),
    **dict.fromkeys(("views", "vocab_size", "min_count", "keep_best"), (1, MANY)),
    **dict.fromkeys(("beams", "clusters", "regions", "slots", "studies", "depth", "dim", "width", "heads"), (1, MANY)),
    **dict.fromkeys(("image_size", "region_size"), (8, 8192)),
    **dict.fromkeys(("learning_rate", "visual_learning_rate", "encoder_learning_rate", "weight_decay"), (0, 10)),
    **dict.fromkeys(("score", "detector_score", "labelled_share", "burn_in_share", "mirror", "threshold"), (0, 1)),
    "empty_weight": (0, 1),
    "ema_decay": (0, 0.99999),
    **dict.fromkeys(("findings", "emphasis"), (0, MANY)),
    **dict.fromkeys(("width_factor", "depth_factor"), (0.05, 16)),
    "max_length": (2, MANY),
    "num_workers": (0, 256),
    "save_minutes": (0, MANY),
    "seed": (0, 2**32 - 1),
    "test_fold": (0, 4),
}  # fmt: skip
CHOICES = {
    "language": ("en", "zh"), "split": ("train", "validation", "test"), "schedule": ("iteration", "epoch"),
    "cache": ("auto", "memory", "disk", "none"),
}  # fmt: skip
KINDS: dict[str, object] = {
    "num_workers": 0,
    "test_fold": 0,
}  # examples, where the config computes a value
OPTIONAL = ("num_workers", "test_fold")  # None is a value
SWITCHES = {"true": True, "1": True, "false": False, "0": False}
DEVICE = re.compile(r"cpu|mps|cuda(:\d+)?")


def typed_values(flags: Mapping[str, object], config: ConfigParser) -> dict[str, object]:
    """Those of ``flags`` whose kind is known, by id, as values of that kind.

    Args:
        flags: of a command line, as typed, or of an ``args_file``.
        config: the config files, without ``flags``.

    Raises:
        SystemExit: one line: a value of another kind, out of range, or none of the choices.
    """
    values: dict[str, object] = {}
    for id, given in flags.items():
        name = str(ReferenceResolver.split_id(id)[-1])
        example = KINDS.get(name, example_of(id, config))
        if name == "device":
            values[id] = _device(id, given)
        elif name == "amp":
            values[id] = _amp(id, given)
        elif name in CHOICES and isinstance(example, str):
            values[id] = _choice(id, given, CHOICES[name])
        elif isinstance(example, bool | int | float):
            values[id] = (
                None if name in OPTIONAL and str(given) in ("None", "null") else _plain(id, name, given, example)
            )
        elif isinstance(example, list) and example and all(isinstance(part, int | float) for part in example):
            values[id] = [_plain(id, name, part, example[0]) for part in _list(id, given)]
    _require_in_order({**{name: example_of(name, config) for name in ("val_interval", "epochs")}, **values})
    return values


def example_of(id: str, config: ConfigParser) -> object:
    """What ``config`` holds at ``id``, or at the id that it refers to; else the default of the argument it adds."""
    value = config.get(id)
    for _ in range(8):  # references of references
        if not isinstance(value, str) or not (reference := re.fullmatch(r"@([\w#:]+)", value)):
            break
        value = config.get(reference[1])
    return _default_of(id, config) if value is None else value


def _default_of(id: str, config: ConfigParser) -> object:
    """The default of the argument that ``id`` (``network_def#dropout``) adds to its component; None: there is none."""
    *parents, name = ReferenceResolver.split_id(id)
    component = config.get("#".join(parents)) if parents else None
    if not ConfigComponent.is_instantiable(component):
        return None
    target = locate(ConfigComponent(component, locator=config.locator).resolve_module_name())
    parameter = inspect.signature(target).parameters.get(str(name))  # type: ignore[arg-type]
    return None if parameter is None or parameter.default is parameter.empty else parameter.default


def _plain(id: str, name: str, given: object, example: bool | float) -> bool | int | float:
    text = str(given).strip()
    if isinstance(example, bool):
        if text.lower() not in SWITCHES:
            raise SystemExit(f"--{id}: {given!r} is neither true nor false; pass --{id} true or --{id} false")
        return SWITCHES[text.lower()]
    whole = isinstance(example, int)
    try:
        value = int(text) if whole else float(text)
    except ValueError:
        kind = "whole number" if whole else "number"
        raise SystemExit(f"--{id}: {given!r} is no {kind}; pass one such as --{id} {example}") from None
    low, high = RANGES.get(name, (-math.inf, math.inf))
    if not low <= value <= high or not math.isfinite(value):
        span = f"{low:g} to {high:g}" if math.isfinite(high) else "the finite numbers"
        raise SystemExit(f"--{id}: {given} is out of range; expected {span}, such as --{id} {example}")
    return value


def _list(id: str, given: object) -> list:
    read = DefaultParseValue(given) if isinstance(given, str) else given
    if not isinstance(read, list | tuple) or not read:
        raise SystemExit(f"--{id}: {given!r} is no list; pass one such as --{id} '[1, 2]'")
    return list(read)


def _choice(id: str, given: object, choices: tuple[str, ...]) -> str:
    if given not in choices:
        raise SystemExit(f"--{id}: {given!r} is none of {', '.join(choices)}")
    return str(given)


def _amp(id: str, given: object) -> bool | str:
    text = str(given).strip().lower()
    if text not in SWITCHES and text not in HALVES:
        raise SystemExit(f"--{id}: {given!r} is none of true, false, {', '.join(HALVES)}; pass such as --{id} float16")
    return SWITCHES.get(text, text)


def _device(id: str, given: object) -> str:
    name = str(given)
    if not DEVICE.fullmatch(name):
        raise SystemExit(f"--{id}: {given!r} is no device; pass cpu, cuda or cuda:N")
    if name.startswith("cuda") and int(name.partition(":")[2] or 0) >= torch.cuda.device_count():
        raise SystemExit(
            f"--{id}: {given!r} is not here; torch sees {torch.cuda.device_count()} CUDA devices; pass cpu"
        )
    return name


def _require_in_order(values: Mapping[str, Any]) -> None:
    interval, epochs = values["val_interval"], values["epochs"]
    if isinstance(interval, int) and isinstance(epochs, int) and interval > epochs:
        raise SystemExit(f"--val_interval: {interval} is more than --epochs {epochs}; no epoch would be validated")
