"""Texts, tables and JSON that a person wrote: one rule for encodings, and one line that says what is wrong and where.

A file is UTF-8, with or without a byte-order mark, UTF-16 with one, or GB18030 (which holds GBK).
"""

from __future__ import annotations

import codecs
import csv
import io
import json
import re
import unicodedata
import xml.etree.ElementTree as ElementTree
from collections.abc import Collection
from pathlib import Path
from typing import Any

MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
SEPARATORS = ",;\t"
NOTHING = ("", "nan", "null", "none", "n/a", "na", "<na>")  # what programs write where a text is missing
MANIFEST = "checked_files.json"  # of a check (common.images.manifest), in a data set's folder
MOST_CELL = 2**24  # characters of a cell
CHINESE = re.compile(r"[\u4e00-\u9fff]+")
IN_A_LATIN_WORD = re.compile(r"(?<=[a-z])[\u4e00-\u9fff]+|[\u4e00-\u9fff]+(?=[a-z])")
CHINESE_MARKS = re.compile("[，。、；：（）？！]")


def read_text(path: str | Path, *, what: str) -> str:
    """The text of a file, without its byte-order mark.

    Args:
        what: a config id, or what the file is, which begins the message of an error.

    Raises:
        FileNotFoundError: no such file.
        ValueError: in none of the encodings, or no text.
    """
    try:
        raw = Path(path).read_bytes()
    except OSError as error:
        if Path(path).is_file():
            raise ValueError(f"{what}: {str(path)!r} cannot be read ({error.strerror}); allow it") from error
        raise FileNotFoundError(f"{what}: no file {str(path)!r}; restore it, or correct its name") from error
    marked = next((name for mark, name in MARKS if raw.startswith(mark)), None)
    for encoding in (marked,) if marked else ("utf-8", "gb18030"):
        try:
            text = raw.decode(encoding)
        except UnicodeError:
            continue
        if encoding == "gb18030" and _is_western(text):
            raise ValueError(f"{what}: {str(path)!r} seems to have accents in Windows' encoding; save it as UTF-8")
        if "\0" in text:
            break
        return text
    raise ValueError(f"{what}: {str(path)!r} is no text in UTF-8, UTF-16 or GB18030; save it as UTF-8")


def _is_western(text: str) -> bool:
    """Whether ``text``, read as GB18030, holds accents of another encoding: its Chinese signs stand within Latin words,
    beside small letters, and no Chinese mark is there.
    """
    signs = len(CHINESE.findall(text))
    return CHINESE_MARKS.search(text) is None and 2 * len(IN_A_LATIN_WORD.findall(text)) > signs


def read_json(path: str | Path, *, what: str) -> Any:
    """The content of a JSON file.

    Raises:
        FileNotFoundError, ValueError: as :func:`read_text`, or no JSON.
    """
    text = read_text(path, what=what)
    try:
        return json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{what}: {str(path)!r} is no JSON ({error}); export it again") from error


def read_xml(path: str | Path, *, what: str) -> ElementTree.Element:
    """The root of an XML file, whose first line may name any encoding.

    Raises:
        FileNotFoundError, ValueError: as :func:`read_text`, or no XML.
    """
    try:
        return ElementTree.fromstring(Path(path).read_bytes())
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{what}: no file {str(path)!r}; restore it, or correct its name") from error
    except (ElementTree.ParseError, ValueError, LookupError, OSError):
        pass  # without a declared encoding, or with one that is not the file's
    text = read_text(path, what=what)
    try:
        return ElementTree.fromstring(text.partition("?>")[2] if text.lstrip().startswith("<?xml") else text)
    except (ElementTree.ParseError, ValueError) as error:
        raise ValueError(f"{what}: {str(path)!r} is damaged or no XML ({error}); replace the file") from error


class Row(dict[str, str]):
    """Cells of a table's row by their columns' names; ``line``: where it ends in the file, the first line is 1."""

    line = 0


def read_table(path: str | Path, *, what: str, columns: Collection[str] = ()) -> list[Row]:
    """Rows of a table with a header, separated by commas, semicolons or tabs; names of columns in lower case.

    Empty lines are left out, and cells that say that nothing is there ("nan", "null") are empty.

    Args:
        columns: that must be there.

    Raises:
        FileNotFoundError, ValueError: as :func:`read_text`; no rows, a column that is missing or there
            twice, a line with another number of cells, a quote that is not closed.
    """
    lines = _lines(read_text(path, what=what))
    csv.field_size_limit(MOST_CELL)
    try:
        header = [name.strip().lower() for name in next(lines, [])]
        rows: list[Row] = []
        for cells in lines:
            if not any(cell.strip() for cell in cells):
                continue
            if len(cells) != len(header):
                raise ValueError(
                    f"{what}: line {lines.line_num} of {str(path)!r} has {len(cells)} cells, the header {len(header)}; "
                    "put texts with separators in quotes"
                )
            rows.append(Row({name: cell_of(cell) for name, cell in zip(header, cells, strict=True)}))
            rows[-1].line = lines.line_num
    except csv.Error as error:
        raise ValueError(
            f"{what}: line {lines.line_num} of {str(path)!r}: {error}; correct the quotes there"
        ) from error
    twice = sorted({name for name in header if header.count(name) > 1})
    missing = [name for name in columns if name not in header]
    if twice or missing:
        fault = f"column {twice[0]!r} is there twice" if twice else f"no column {', '.join(map(repr, missing))}"
        raise ValueError(f"{what}: {fault} in {str(path)!r}, which has {header}; expected {', '.join(columns)}")
    if not rows:
        raise ValueError(f"{what}: {str(path)!r} has no row below its header; add the cases")
    return rows


def header_of(path: str | Path) -> set[str]:
    """Names of a table's columns, in lower case; none where there is no table.

    Raises:
        ValueError: the file is no text, or its header is no line of a table.
    """
    if not Path(path).is_file():
        return set()
    lines = _lines(read_text(path, what="dataset_dir"))
    try:
        return {name.strip().lower() for name in next(lines, [])}
    except csv.Error as error:
        raise ValueError(f"dataset_dir: the header of {str(path)!r}: {error}; correct it") from error


def cell_of(value: object) -> str:
    """A text, in Unicode's composed form; empty where a program wrote that nothing is there."""
    text = "" if value is None else unicodedata.normalize("NFC", str(value)).strip()
    return "" if text.lower() in NOTHING else text


def _lines(text: str) -> Any:
    """A csv reader of a table, with the separator that its header has most of."""
    header = text.partition("\n")[0].partition("\r")[0]
    return csv.reader(io.StringIO(text, newline=None), delimiter=max(SEPARATORS, key=header.count), strict=True)


def visible(folder: str | Path, pattern: str) -> list[Path]:
    """Entries of ``folder`` that a person put there, sorted: none that an operating system, a spreadsheet, or
    ``python -m common.cli.check`` adds.
    """
    paths = sorted(Path(folder).glob(pattern))
    return [path for path in paths if not path.name.startswith((".", "~$")) and path.name != MANIFEST]
