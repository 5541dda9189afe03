"""What a page is made of: sections of blocks; ``page.html.j2`` says how each looks, and escapes it."""

from __future__ import annotations

import base64
import io
import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import quote

import jinja2
from PIL import Image

from common.results.drawing import pieces_of, shade

Block = dict[str, Any]  # ``kind`` and what page.html.j2 shows of it
THUMBNAIL = (440, 250)  # pixels of a picture that its file shows in full
TALL = (260, 760)  # of one that has a row for each sentence


class Section(NamedTuple):
    """A titled box of a page; ``group`` is a heading above it.

    Attributes:
        order: of a case, what it is sorted by: the text "name" and numbers; empty: it stays in its place.
    """

    title: str
    blocks: Sequence[Block]
    group: str = ""
    order: Mapping[str, str | float] = MappingProxyType({})


def render(title: str, sections: Sequence[Section], *, note: str = "") -> str:
    """HTML that needs no other file and no network."""
    figures = [figure for section in sections for block in section.blocks for figure in block.get("figures", ())]
    outlined = any(figure["kind"] == "outlines" for figure in figures)
    shown = [section._asdict() for section in sections]
    return _template().render(title=title, sections=shown, note=note, outlined=outlined)


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(Path(__file__).with_name("page.html.j2").read_text(encoding="utf-8"))


def figure(picture: Image.Image, caption: str, *, file: str | None = None) -> Block:
    """A picture inside the page, as JPEG: a tenth of what PNG takes for speckle.

    Args:
        file: beside the page, that shows it in full; the page then holds a thumbnail.
    """
    if file is None:
        return {"kind": "figure", "source": embedded(picture), "caption": caption}
    small = picture.copy()
    small.thumbnail(TALL if picture.height > 1.5 * picture.width else THUMBNAIL, Image.Resampling.LANCZOS)
    return {
        "kind": "figure",
        "source": embedded(small, quality=72),
        "caption": caption,
        "link": quote(os.fsencode(file)),
    }


def embedded(picture: Image.Image, *, quality: int = 90) -> str:
    """``picture`` as a data URL."""
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, format="JPEG", quality=quality, subsampling=0 if quality > 85 else 2)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def chart(source: str, caption: str) -> Block:
    """A chart of :mod:`common.results.charts`."""
    return {"kind": "chart", "source": source, "caption": caption}


def folded(summary: str, block: Block) -> Block:
    """``block``, hidden until its summary is asked for."""
    return {"kind": "details", "summary": summary, "block": block}


def text(content: str) -> Block:
    """A paragraph."""
    return {"kind": "text", "text": content}


def table(rows: Sequence[Sequence[object]], *, header: Sequence[str] = ()) -> Block:
    """Rows whose first cell is a name; numbers with three decimals."""
    return {"kind": "table", "header": header, "rows": [[_cell(value) for value in row] for row in rows]}


def _cell(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def words(report: str, spans: Sequence[tuple[int, int]], scores: Sequence[float]) -> Block:
    """A report, each token shaded by its score in [0, 1], which is its tooltip."""
    pieces = pieces_of(report, spans, scores)
    shaded = [
        {"text": piece, "colour": score is not None and f"rgb{shade(score)}", "score": f"{score or 0:.2f}"}
        for piece, score in pieces
    ]
    return {"kind": "words", "pieces": shaded}
