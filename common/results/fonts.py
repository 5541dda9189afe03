"""Fonts of pictures: Pillow's own for Latin letters, one of the machine's for Chinese and others."""

from __future__ import annotations

import re
from functools import cache

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont
NOT_LATIN = re.compile(r"[^\u0000-\u024f\u2010-\u2027]+")
FILES = (  # of Linux, Windows, macOS, by what they are called there; Pillow looks in the folders of the system
    "NotoSansCJK-Regular.ttc", "NotoSansSC-Regular.otf", "SourceHanSansSC-Regular.otf", "wqy-microhei.ttc",
    "wqy-zenhei.ttc", "DroidSansFallbackFull.ttf", "msyh.ttc", "simhei.ttf", "simsun.ttc", "PingFang.ttc",
    "STHeiti Light.ttc", "Arial Unicode.ttf",
)  # fmt: skip


def text_and_font(text: str, size: int) -> tuple[str, Font]:
    """``text`` and a font of ``size`` pixels that has its letters.

    Where the machine has no such font, what cannot be drawn is left to the page, with "..." in its place.
    """
    if not NOT_LATIN.search(text):
        return text, ImageFont.load_default(size=size)
    wide = _wide_font(size)
    if wide is None:
        return NOT_LATIN.sub("...", text), ImageFont.load_default(size=size)
    return text, wide


@cache
def _wide_font(size: int) -> Font | None:
    for name in FILES:
        try:
            return ImageFont.truetype(name, size)
        except OSError:
            continue
    return None
