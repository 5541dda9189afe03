"""Texts and paths of the command line as they were typed, past what Fire and MONAI make of them.

Fire turns ``12``, ``True`` and ``a, b`` into numbers, bools and tuples; MONAI evaluates a value that begins with ``$``,
replaces one that begins with ``@`` or ``%``, and writes ``::`` for every ``#``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import fire
from fire.decorators import SetParseFn
from fire.parser import DefaultParseValue
from monai.bundle import ConfigExpression, ConfigItem, ConfigParser, ReferenceResolver

TEXTS = ("report", "phrase", "fixed_phrase")  # any text, "None" and the empty one included
NAMES = {
    "alone", "annotation", "base", "best_path", "bundle_root", "cache", "code_root", "encoder", "experiment_name",
    "file", "folder", "image", "language", "load_path", "mask", "name", "onnx", "organ", "output", "output_ext",
    "output_postfix", "path", "pooling", "prefix", "pretrained", "program", "radeval", "remedy", "reports", "root",
    "run_name", "schedule", "size_name", "source", "split", "tracking_uri", "trained_by", "user_dictionary",
    "weights", "what",
}  # fmt: skip
ENDINGS = ("_dir", "_file", "_path", "_settings", "_source", "_weights")


def is_text(id: str, default: object = None) -> bool:
    """Whether the config entry ``id`` holds a text or a path: an override is then taken as it was typed.

    Args:
        default: its value in the config; a number there (``synthetic#reports``) says that it holds none.
    """
    name = ReferenceResolver.split_id(id)[-1]
    named = name in TEXTS or name in NAMES or name.endswith(ENDINGS)
    return named and (default is None or isinstance(default, str))


RECORD = "save_execute_config"  # MONAI's: whether, or where, the config of a tracked run is kept


def is_record(id: str, value: object) -> bool:
    """Whether ``value`` is a path for the record of a tracked run, and not true or false."""
    return id == RECORD and str(value).lower() not in ("true", "false")


def typed(arguments: Sequence[str]) -> dict[str, str]:
    """Flags of a command line, by name, as Fire pairs them with their values, each value as it was typed."""
    given: dict[str, str] = {}

    @SetParseFn(str)
    def collect(*_: str, **flags: str) -> None:
        given.update(flags)

    fire.Fire(collect, command=list(arguments))
    return given


def leaves(id: str, value: object) -> Iterator[tuple[str, Any]]:
    """Yield ``id`` and ``value``; of a dict or a list, as Fire reads one from a text, each leaf and its id."""
    read = DefaultParseValue(value) if isinstance(value, str) and value.lstrip()[:1] in ("{", "[") else value
    items = read.items() if isinstance(read, dict) else enumerate(read) if isinstance(read, list) else None
    if items is None or is_text(id):
        yield id, value
        return
    for key, part in items:
        yield from leaves(f"{id}::{key}", part)


def is_none(id: str, value: object) -> bool:
    """Whether ``value`` says that the path or name at ``id`` is to be none; in a text these are words."""
    return value in ("None", "null") and ReferenceResolver.split_id(id)[-1] not in TEXTS


def texts_of(flags: Mapping[str, object], arguments: Sequence[str]) -> dict[str, str]:
    """``flags`` that hold texts and paths, by id, those that are to be none left out.

    Raises:
        SystemExit: one without a value, an empty path, or a value of an ``args_file`` that is no text.
    """
    texts = {}
    for id, value in flags.items():
        if value is None:
            continue
        if not isinstance(value, (str, int, float)):
            raise SystemExit(f"--{id}: {value!r} is no text; write it as one, in quotes")
        if value == "True" and _without_value(id, arguments):
            raise SystemExit(f"--{id}: its value is missing; pass --{id} VALUE, or --{id}=VALUE if it begins with a -")
        is_name = ReferenceResolver.split_id(id)[-1] not in TEXTS
        if is_name and not str(value).strip():
            raise SystemExit(f"--{id}: {value!r} is empty; leave it out, or pass a name")
        if not is_none(id, value):
            texts[id] = str(value)
    return texts


def _without_value(id: str, arguments: Sequence[str]) -> bool:
    """Whether the flag ``id`` stands alone, which Fire reads as True."""
    pairs = zip(arguments, [*arguments[1:], ""], strict=True)
    following = [after for flag, after in pairs if flag.lstrip("-").replace("-", "_") == id]
    return bool(following) and following[-1] != "True"


def literal(text: str) -> str:
    """An expression that MONAI evaluates to exactly ``text``: every character that it could interpret is escaped."""
    plain = (c if (c.isascii() and c.isalnum()) or c in " ./_-" else f"\\U{ord(c):08x}" for c in text)
    return f"$'{''.join(plain)}'"


class TypedText(ConfigExpression):
    """An item of a config that is evaluated to its text, whatever its expression says by then."""

    text: str

    def evaluate(self, globals: dict | None = None, locals: dict | None = None) -> str:
        return self.text


def deliver(parser: ConfigParser, texts: Mapping[str, str]) -> None:
    """Let each id of ``texts`` have its text, in a ``parser`` that has parsed its config and resolved none of them."""
    for id, text in texts.items():
        item = put(parser, id, literal(text))
        item.__class__, item.text = TypedText, text  # type: ignore[attr-defined]  # MONAI may hold the item already


def put(parser: ConfigParser, id: str, value: object) -> ConfigItem:
    """Let ``id`` have ``value`` in a ``parser`` that has parsed its config and not resolved it; return its item.

    Raises:
        SystemExit: the part that ``id`` belongs to was replaced by a plain value.
    """
    *parents, name = ReferenceResolver.split_id(id)
    holder: Any = parser["::".join(parents)] if parents else parser.config
    if not isinstance(holder, dict | list):
        raise SystemExit(f"--{id}: --{'#'.join(parents)} replaces the part that it belongs to; leave one out")
    key: Any = name if isinstance(holder, dict) else int(name)
    holder[key] = value
    normal = ReferenceResolver.normalize_id(id)
    resolver = parser.ref_resolver
    item = resolver.items.get(normal) or ConfigItem(config=None, id=normal)
    if normal not in resolver.items:
        resolver.items = {**resolver.items, normal: item}  # MONAI may be going through the former ones
    item.update_config(value)
    resolver.resolved_content.pop(normal, None)
    return item


def deliver_record(parser: ConfigParser, output_dir: str) -> None:
    """MONAI makes the place of a tracked run's config from ``output_dir`` as an expression; here it is a path."""
    made = parser.get(RECORD)
    if isinstance(made, str) and made.startswith(output_dir):
        name = made[len(output_dir) :].removeprefix(" + '").removesuffix("'")
        deliver(parser, {RECORD: output_dir + name})
