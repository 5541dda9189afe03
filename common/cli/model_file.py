"""``model.json`` beside a network's weights: how it was trained, and which files belong to it.

A network is built with the sizes that it was trained with, whatever the config says by default; an override that
contradicts them is refused, and so is a file that another training wrote.
"""

from __future__ import annotations

import json
import logging
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser, ReferenceResolver

from common.cli.atomic import write_json
from common.cli.trained import digest_of
from common.cli.typed_text import is_text, put

logger = logging.getLogger(__name__)
ANYTIME = {  # of a network, and free to differ from its training's
    "beams", "min_length", "length_penalty", "block_ngram", "crops", "score_thresh", "nms_thresh", "detections_per_img",
}  # fmt: skip
FOLD = "test_fold"  # which patients were held out; told, since another data set has its own
NETWORK = "network_def"  # its id where it is trained
FITTED = (  # they name the weights' digest
    "familiarity.safetensors", "calibration.json", "sentence_calibration.json", "report_fit.json", "expected_dice.json",
)  # fmt: skip
EARLIER = "earlier"  # folder beside a model, of those that were there before
INPUTS = ("validate#preprocessing", "preprocessing")  # what makes the network's input


def path_of(weights: str | Path) -> Path:
    """``model.json`` of ``model.pt``."""
    return Path(weights).with_suffix(".json")


def settings_of(parser: ConfigParser) -> dict[str, Any]:
    """Plain values by their ids that shape the network of ``parser`` and its input; paths and texts are left out."""
    plain = {**_plain(parser, NETWORK), **{id: v for part in INPUTS for id, v in _referred(parser, part)}}
    if FOLD in parser and parser.get(FOLD) is not None:
        plain[FOLD] = parser.get(FOLD)
    return {id: value for id, value in plain.items() if not is_text(id) and id.rpartition("#")[2] not in ANYTIME}


def _plain(parser: ConfigParser, id: str) -> dict[str, Any]:
    """Plain values inside ``id``, and those that it refers to."""
    values = dict(_referred(parser, id))
    for inner, value in _leaves(parser.get(id), id):
        if not isinstance(value, str):
            values[inner] = value
    return values


def _referred(parser: ConfigParser, id: str) -> Iterator[tuple[str, Any]]:
    """Ids that ``id`` refers to and that hold plain values."""
    for _, value in _leaves(parser.get(id), id):
        name = value[1:] if isinstance(value, str) and re.fullmatch(r"@[\w#:]+", value) else None
        if name is not None and _is_plain(parser.get(name)):
            yield name, parser.get(name)


def _leaves(value: Any, id: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, part in value.items():
            if not key.startswith("_"):
                yield from _leaves(part, f"{id}#{key}")
    elif value is not None or "#" in id:
        yield id, value


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float)


def write(weights: str | Path, settings: Mapping[str, Any], *, files: Mapping[str, Path]) -> None:
    """Write ``model.json``, before the weights are replaced.

    What the file says of its model's other files stays; the digest that a file had by then stays valid beside its new
    one, so that the model is whole at any moment.

    Args:
        files: by their names in the folder of ``weights``, where their new content lies.
    """
    path = path_of(weights)
    digests = _read(path)["files"] if path.is_file() else {}
    for name, file in files.items():
        digests[name] = list(dict.fromkeys([digest_of(file), *digests.get(name, [])[:1]]))
    write_json(path, {"settings": dict(settings), "files": digests}, indent=1)


def keep_earlier(weights: str | Path, *, beside: Sequence[str] = ()) -> Path | None:
    """Keep the model ``weights`` with all its files, and those ``beside`` it, in a new folder in ``earlier/``; say so.

    They stay where they are, too, until something takes their place: files are replaced, never written into.

    Returns:
        The folder; None where there is nothing to keep.
    """
    folder, path = Path(weights).parent, path_of(weights)
    fitted: list[str] = []
    if Path(weights).is_file():
        digest = digest_of(Path(weights)).encode()
        fitted = [name for name in FITTED if (folder / name).is_file() and digest in (folder / name).read_bytes()]
    names = dict.fromkeys([path.name, Path(weights).name, *listed(path), *fitted, *beside])
    found = [name for name in names if (folder / name).is_file()]
    if not set(found) - {path.name}:
        return None
    aside = folder / EARLIER / datetime.now().strftime("%Y%m%d-%H%M%S-%f")
    for name in found:
        (aside / name).parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link((folder / name).resolve(), aside / name)
        except OSError:  # a file system without hard links
            shutil.copy2(folder / name, aside / name)
    logger.info("the model that was in %s is kept in %s", folder, aside)
    return aside


def listed(path: Path) -> list[str]:
    """Names of files that the model of ``path`` says are its own, below its folder; none of a damaged one."""
    try:
        names = list(_read(path)["files"]) if path.is_file() else []
    except ValueError:
        return []
    return [n for n in names if "\0" not in n and not Path(n).is_absolute() and ".." not in Path(n).parts]


def trained_with(weights: str | Path) -> dict[str, Any]:
    """Settings of the model ``weights``, by the ids of its training's config; none where it has no ``model.json``."""
    path = path_of(weights)
    return _read(path)["settings"] if os.path.isfile(path) and os.path.isfile(weights) else {}


def adopt(
    parser: ConfigParser,
    given: Mapping[str, object],
    *,
    weights: str,
    network: str = NETWORK,
    only_network: bool = False,
) -> None:
    """Give ``parser`` the settings that the model ``weights`` was trained with; none where it has no ``model.json``.

    Args:
        given: overrides of the command line, by id.
        network: id of the network in ``parser``.
        only_network: the network's settings alone, as for fine-tuning, whose input may be of another size.

    Raises:
        ValueError: an override contradicts them, or a file is not that of this model.
    """
    path = path_of(weights)
    if not os.path.isfile(path) or not os.path.isfile(weights):  # False of what is no path at all
        return
    content = _read(path)
    _require_whole(path, content["files"])
    referred = dict(_referred(parser, network))
    named = {ReferenceResolver.normalize_id(id) for id in given}
    settings = dict(content["settings"])
    fold = settings.pop(FOLD, None)
    if not only_network and FOLD in parser and fold != parser.get(FOLD) and parser.get("dataset_dir", None) is not None:
        logger.warning(
            "test_fold: the model was trained with %s, this runs with %s: of the same data set, its test split holds "
            "patients that the model was trained on", fold, parser.get(FOLD)
        )  # fmt: skip
    for trained, value in settings.items():
        id = network + trained.removeprefix(NETWORK) if trained.startswith(NETWORK) else trained
        if not _holds(parser, id) or (only_network and id not in referred and not id.startswith(network)):
            continue
        if ReferenceResolver.normalize_id(id) not in named:
            put(parser, id, value)
        elif parser.get(id) != value:
            raise ValueError(
                f"--{id}: {parser.get(id)!r}, but the model {str(weights)!r} was trained with {value!r}; leave it out"
            )


def adopt_detector(parser: ConfigParser, given: Mapping[str, object], *, weights: str) -> None:
    """:func:`adopt` for the detector of ``parser``, a part of its own or its only network; its input stays."""
    network = "detector_def" if "detector_def" in parser else NETWORK
    adopt(parser, given, weights=weights, network=network, only_network=True)


def _holds(parser: ConfigParser, id: str) -> bool:
    """Whether ``parser`` has the id, or the part that it is an argument of."""
    parent = "#".join(map(str, ReferenceResolver.split_id(id)[:-1]))
    return id in parser or (bool(parent) and parent in parser and isinstance(parser.get(parent), dict))


def _require_whole(path: Path, files: Mapping[str, Sequence[str]]) -> None:
    """Refuse files of another training; what is not there is missed by what reads it, or was left out of a zip."""
    for name, digests in files.items():
        file = path.parent / name
        if file.is_file() and digest_of(file) not in digests:
            raise ValueError(
                f"weights: {str(file)!r} is not the file that {path.name} was written with; restore the files of one "
                f"training, or remove {path.name} to use them as they are"
            )


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"weights: {str(path)!r} is damaged ({error}); restore it, or remove it") from error
    if not isinstance(content, dict) or not all(isinstance(content.get(key), dict) for key in ("settings", "files")):
        raise ValueError(f"weights: {str(path)!r} does not describe a model; restore it, or remove it")
    return content
