"""Cases that another program lists in a JSON file, so that no text of a case becomes a value of a config."""

from __future__ import annotations

import json
from pathlib import Path

from common.cli.atomic import write_json


def write_listed(path: str, cases: dict[str, list[dict]]) -> None:
    """Write cases by split: dictionaries of paths and texts, such as ``image, label, report``."""
    write_json(path, cases)


def read_listed(path: str, split: str) -> list[dict]:
    """The cases of ``split`` that :func:`write_listed` wrote."""
    return json.loads(Path(path).read_text(encoding="utf-8"))[split]
