"""What a request may say: every setting with its type and range, one table for every call that takes JSON."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from label_app.names import is_encodable, is_name

DEVICE = re.compile(r"cpu|cuda(:\d{1,2})?")
LONGEST_TEXT, LONGEST = 20_000, 100_000  # characters of a text; of all settings: they travel on a command line
MASKS = (".png", ".nii", ".nii.gz", ".nrrd")


class Setting(NamedTuple):
    """One setting: whether a value is accepted, and what is said of one that is not."""

    accepts: Callable[[Any], bool]
    refusal: str


def _whole(low: int, high: int) -> Setting:
    fits = lambda value: isinstance(value, int) and not isinstance(value, bool) and low <= value <= high  # noqa: E731
    return Setting(fits, f"is no whole number from {low} to {high}")


def _share(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 0.9


def _device(value: Any) -> bool:
    return isinstance(value, str) and DEVICE.fullmatch(value) is not None


def _one_of(*values: str) -> Setting:
    return Setting(lambda value: isinstance(value, str) and value in values, f"is none of {', '.join(values)}")


def _text(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= LONGEST_TEXT


def _images(value: Any) -> bool:
    if isinstance(value, list):
        return len(value) <= 10_000 and all(is_name(name) for name in value)
    return value in ("all", "labeled", "unlabeled")


def _labels(value: Any) -> bool:
    entries = value if isinstance(value, list) and len(value) <= 1000 else [None]
    return all(isinstance(entry, dict) and len(json.dumps(entry)) <= 10_000 for entry in entries)


def read_json(text: str | bytes) -> Any:
    """The value of ``text``; every JSON of a request is read here.

    Raises:
        ValueError: it is no JSON, nests too deeply, or holds a number or a text that no JSON can be written with.
    """
    try:
        value = json.loads(text or "{}", parse_constant=_no_number)
    except RecursionError as error:
        raise ValueError("JSON nested too deeply") from error
    except ValueError as error:
        raise ValueError(f"no JSON ({_short(error)})") from error
    if not is_encodable(json.dumps(value, ensure_ascii=False)):
        raise ValueError("a text in it cannot be written in UTF-8")
    return value


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number")


BOOL = Setting(lambda value: isinstance(value, bool), "is neither true nor false")
NAME = Setting(is_name, "is no name; a path is not accepted")
TEXT = Setting(_text, f"is no text of at most {LONGEST_TEXT} characters")
SETTINGS: dict[str, Setting] = {
    "max_epochs": _whole(1, 1000),
    "val_split": Setting(_share, "is no number from 0 to 0.9"),
    "device": Setting(
        lambda value: _device(value) or (isinstance(value, list) and bool(value) and all(map(_device, value))),
        "is none of cpu, cuda, cuda:N",
    ),
    "pretrained": BOOL,
    "multi_gpu": BOOL,
    "gpus": Setting(
        lambda value: isinstance(value, str) and re.fullmatch(r"all|\d+(,\d+)*", value) is not None,
        "is neither all nor 0,1,...",
    ),
    "images": Setting(_images, "is none of all, labeled, unlabeled, or a list of names"),
    "save_label": BOOL,
    "label_tag": NAME,
    "max_workers": _whole(0, 32),
    "max_batch_size": _whole(0, 100_000),
    "timeout": _whole(1, 3600),
    "strategy": NAME,
    "model": NAME,
    "image": NAME,
    "client_id": NAME,
    "user": NAME,
    "report": TEXT,
    "phrase": TEXT,
    "logging": _one_of("DEBUG", "INFO", "WARNING", "ERROR"),
    "result_extension": _one_of(*MASKS),
    "result_dtype": _one_of("uint8", "uint16"),
    "result_compress": BOOL,
    "restore_label_idx": BOOL,
    "label_info": Setting(_labels, "is no list of at most 1000 objects"),
}


SERVERS_OWN = {"strategy", "ts", "name", "path", "checksum", "ext"}  # what it keeps with an image and relies on


def fault_of(settings: object) -> str | None:
    """What is wrong with the settings of a request, in one line; None if nothing is."""
    if not isinstance(settings, Mapping):
        return f"the settings are no JSON object: {str(settings)[:40]}"
    if len(json.dumps(settings)) > LONGEST:
        return f"the settings have more than {LONGEST} characters"
    for name, value in settings.items():
        known = SETTINGS.get(name)
        if known is None:
            return f"{str(name)[:40]}: no setting that a request can make; {sorted(SETTINGS)} are"
        if not known.accepts(value):
            return f"{name}: {_short(value)} {known.refusal}"
    return None


def _short(value: object) -> str:
    text = str(value) if isinstance(value, Exception) else repr(value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def fault_of_tasks(settings: object) -> str | None:
    """:func:`fault_of` of settings for all tasks, some of them by task: ``{"akessfa": {"max_epochs": 5}}``."""
    if not isinstance(settings, Mapping) or len(json.dumps(settings)) > LONGEST:
        return fault_of(settings)
    by_task = {name: value for name, value in settings.items() if isinstance(value, Mapping) and name not in SETTINGS}
    rest = {name: value for name, value in settings.items() if name not in by_task}
    faults = (fault_of(part) for part in (rest, *by_task.values()))
    return next((fault for fault in faults if fault is not None), None)


def fault_of_info(info: object) -> str | None:
    """What is wrong with what a request tells about an image or a label: texts are texts, and nothing is huge."""
    if not isinstance(info, Mapping):
        return f"the information is no JSON object: {str(info)[:40]}"
    size = len(json.dumps(info))
    if size > LONGEST:
        return f"the information has {size} characters; {LONGEST} are accepted"
    own = sorted(SERVERS_OWN & set(info))
    if own:
        return f"{own[0]}: told by the server, not by requests"
    return fault_of({name: info[name] for name in ("report", "phrase", "client_id", "user") if name in info})


def device_of(settings: Mapping[str, Any], available: bool) -> str:
    """The device that checked ``settings`` ask for; the processor where no GPU is ``available``."""
    asked = settings.get("device", "cuda")
    device = asked[0] if isinstance(asked, list) else asked
    if not available or device == "cpu":
        return "cpu"
    return device if ":" in device else f"{device}:0"
