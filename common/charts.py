"""Charts for reports: a heat map of a grid of numbers, a scatter of labelled points; drawn by Pillow alone."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

INK, PAPER = (24, 28, 33), (255, 255, 255)
LOW, HIGH = (247, 250, 252), (22, 98, 160)
NOISE_COLOUR = (190, 195, 200)


def heat_map(
    values: np.ndarray,
    *,
    rows: Sequence[str],
    columns: Sequence[str],
    row_title: str,
    column_title: str,
    cell: int = 56,
) -> Image.Image:
    """``values`` (R, C) as cells from light (lowest) to dark (highest), the number in each; the highest is framed.

    NaN is an empty cell.
    """
    left, top = 84, 52
    picture = Image.new("RGB", (left + cell * len(columns) + 8, top + 32 * len(rows) + 8), PAPER)
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(size=14)
    pen.text((left, 6), column_title, fill=INK, font=font)
    pen.text((6, 28), row_title, fill=INK, font=font)
    for place, name in enumerate(columns):
        pen.text((left + cell * place + cell // 2, 28), name, fill=INK, font=font, anchor="ma")
    low, spread = np.nanmin(values), max(float(np.nanmax(values) - np.nanmin(values)), 1e-12)
    for r, name in enumerate(rows):
        pen.text((left - 12, top + 32 * r + 8), name, fill=INK, font=font, anchor="ra")
        for c in range(len(columns)):
            if np.isnan(values[r, c]):
                continue
            share = float(values[r, c] - low) / spread
            corner = (left + cell * c, top + 32 * r)
            box = [*corner, corner[0] + cell - 2, corner[1] + 30]
            frame = (230, 120, 0) if values[r, c] == np.nanmax(values) else None
            pen.rectangle(box, fill=_between(LOW, HIGH, share), outline=frame, width=3)
            ink = PAPER if share > 0.55 else INK
            pen.text((corner[0] + cell // 2, corner[1] + 8), f"{values[r, c]:.2f}", fill=ink, font=font, anchor="ma")
    return picture


def scatter(points: np.ndarray, labels: np.ndarray, *, size: int = 560) -> Image.Image:
    """``points`` (N, 2) coloured by ``labels`` (N,), numbered at the point next to each median; label -1 is grey."""
    low, spread = points.min(0), np.maximum(np.ptp(points, axis=0), 1e-12)
    places = (points - low) / spread * (size - 40) + 20
    picture = Image.new("RGB", (size, size), PAPER)
    pen, font = ImageDraw.Draw(picture), ImageFont.load_default(size=16)
    for (x, y), label in zip(places, labels, strict=True):
        pen.ellipse([x - 2, y - 2, x + 2, y + 2], fill=colour(int(label)))
    for label in np.unique(labels[labels >= 0]):
        own = places[labels == label]
        x, y = own[np.square(own - np.median(own, axis=0)).sum(1).argmin()]
        pen.text((x, y), str(label), fill=INK, font=font, anchor="mm", stroke_width=3, stroke_fill=PAPER)
    return picture


def colour(label: int) -> tuple[int, int, int]:
    """A colour for each label: hues a golden angle apart; grey below 0."""
    if label < 0:
        return NOISE_COLOUR
    red, green, blue = colorsys.hls_to_rgb((0.58 + 0.381966 * label) % 1.0, 0.42 + 0.12 * (label % 3), 0.62)
    return round(255 * red), round(255 * green), round(255 * blue)


def _between(first: tuple[int, int, int], second: tuple[int, int, int], share: float) -> tuple[int, int, int]:
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue
