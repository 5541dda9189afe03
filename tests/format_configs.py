"""``python -m tests.format_configs [--check]``: every config in one form.

A value is on one line where it fits in 120 characters; numbers and texts of a part stand side by side, of the whole
config numbers alone; the only part of a list or a dict shares its brackets' lines.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WIDTH = 120
FILES = sorted(ROOT.glob("bundles/*/configs/**/*.json"))


def formatted(value: object, *, indent: int = 0, lead: int = 0, trail: int = 0) -> str:
    """JSON of ``value``, of which ``lead`` characters stand before its first line and ``trail`` behind its last."""
    line = json.dumps(value, ensure_ascii=False)
    if not isinstance(value, dict | list) or not value or lead + len(line) + trail <= WIDTH:
        return line
    inner = " " * (indent + 4)
    named = isinstance(value, dict)
    first, last = "{}" if named else "[]"
    heads = [f"{json.dumps(key, ensure_ascii=False)}: " for key in value] if named else [""] * len(value)
    pairs = list(zip(heads, value.values() if named else value, strict=True))
    if len(pairs) == 1 and not is_plain(pairs[0][1]):
        first += pairs[0][0]
        return first + formatted(pairs[0][1], indent=indent, lead=lead + len(first), trail=trail + 1) + last
    lines: list[str] = []
    flowing = False  # whether the last line takes more
    for head, part in pairs:
        text = head + formatted(part, indent=len(inner), lead=len(inner) + len(head), trail=1)
        alone = head == '"_desc_": ' or "\n" in text or (indent == 0 and (isinstance(part, list) or '"$' in text))
        plain = not alone and is_plain(part)
        if plain and flowing and len(inner) + len(lines[-1]) + len(text) + 3 <= WIDTH:
            lines[-1] += f", {text}"
        else:
            lines.append(text)
        flowing = plain
    return "\n".join([first, ",\n".join(inner + line for line in lines), " " * indent + last])


def is_plain(value: object) -> bool:
    """A number or a text, a list of them, or nothing."""
    return value == {} or (
        not isinstance(value, dict) and not (isinstance(value, list) and any(isinstance(v, dict | list) for v in value))
    )


def main() -> None:
    """Write every config anew; with ``--check`` write none, and name those that differ."""
    texts = {file: file.read_text(encoding="utf-8") for file in FILES}
    changed = {file: new for file in FILES if (new := formatted(json.loads(texts[file])) + "\n") != texts[file]}
    if "--check" in sys.argv[1:] and changed:
        raise SystemExit("\n".join(f"{file.relative_to(ROOT)}: run python -m tests.format_configs" for file in changed))
    for file, text in changed.items():
        file.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
