"""Pictures of predictions, reports and attention, drawn by Pillow alone; curves are in :mod:`common.results.charts`.

Images are uint8 (H, W), masks boolean (H, W), attention float (h, w): rows first, as a picture is seen. MONAI's PIL
reader gives (W, H): transpose before calling.
"""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import binary_erosion

from common.results.fonts import Font, text_and_font

PREDICTION, TRUTH, KEYWORD = (255, 176, 0), (0, 200, 255), (255, 196, 61)
INK, PAPER = (24, 28, 33), (255, 255, 255)
LOW, HIGH = (247, 250, 252), (22, 98, 160)
NOISE_COLOUR = (190, 195, 200)
WIDEST = 2048  # pixels of a picture
FLAT = 1.5  # attention that nowhere has this many times its mean shows nothing


def shown_size(image: np.ndarray, height: int) -> tuple[int, int]:
    """Width and height at which ``image`` (H, W) is shown: ``height``, less for a strip wider than :data:`WIDEST`."""
    factor = min(height / image.shape[0], WIDEST / image.shape[1])
    return max(1, round(image.shape[1] * factor)), max(1, round(image.shape[0] * factor))


def overlay(
    image: np.ndarray, prediction: np.ndarray, truth: np.ndarray | None = None, *, height: int = 384
) -> Image.Image:
    """Draw the outlines of prediction and, if there is one, truth over ``image``, with a legend below.

    Raises:
        ValueError: a mask has another shape than the image.
    """
    for name, mask in (("prediction", prediction), ("truth", truth)):
        if mask is not None and mask.shape != image.shape:
            raise ValueError(f"{name}: shape {mask.shape} is not the image's {image.shape}")
    size = shown_size(image, height)
    canvas = np.array(Image.fromarray(image).convert("RGB").resize(size, Image.Resampling.BICUBIC))
    entries = []
    for name, mask, colour in (("truth", truth, TRUTH), ("prediction", prediction, PREDICTION)):
        if mask is not None:
            canvas[_outline(mask, size)] = colour
            entries.append((name if mask.any() else f"{name}: none", colour))
    return stack([Image.fromarray(canvas), _legend(entries, size[0])])


def _outline(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    large = np.array(Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BICUBIC)) > 127
    return large & ~binary_erosion(large, iterations=2, border_value=0)


def _legend(entries: list[tuple[str, tuple[int, int, int]]], width: int) -> Image.Image:
    """The names of colours in a row, at least as wide as ``width``."""
    whole = 8 + sum(44 + int(_font(14).getlength(name)) for name, _ in entries)
    legend = Image.new("RGB", (max(width, whole), 28), PAPER)
    pen, x = ImageDraw.Draw(legend), 8
    for name, colour in entries:
        pen.rectangle([x, 9, x + 18, 19], fill=colour)
        _write(pen, (x + 24, 6), name)
        x += 44 + int(pen.textlength(name, font=_font(14)))
    return legend


def draw_boxes(image: np.ndarray, boxes: np.ndarray, texts: Sequence[str], *, height: int = 384) -> Image.Image:
    """Draw ``boxes`` (M, 4), x1, y1, x2, y2 in pixels, over ``image``, with a number each and ``texts`` below."""
    size = shown_size(image, height)
    factor = size[1] / image.shape[0]
    canvas = Image.fromarray(image).convert("RGB").resize(size, Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(canvas)
    for number, box in enumerate(boxes * factor, start=1):
        pen.rectangle([float(value) for value in box], outline=PREDICTION, width=2)
        pen.text((float(box[0]) + 4, float(box[1]) + 2), str(number), fill=PREDICTION, font=_font(14))
    lines = [f"{number}: {text}" for number, text in enumerate(texts, start=1)] or ["no box"]
    legend = Image.new("RGB", (size[0], 8 + 20 * len(lines)), PAPER)
    for row, line in enumerate(lines):
        _write(ImageDraw.Draw(legend), (8, 4 + 20 * row), line)
    return stack([canvas, legend])


def attention_boxes(
    image: np.ndarray, boxes: np.ndarray, shares: np.ndarray, *, title: str, highest: float, height: int = 384
) -> Image.Image:
    """Draw ``boxes`` (M, 4), x1, y1, x2, y2 in pixels, filled the redder the higher their share of attention (M,).

    Args:
        highest: share that is wholly red.
    """
    heat = np.zeros(image.shape, dtype=np.float32)
    for box, share in zip(boxes.round().astype(int), shares, strict=True):
        part = heat[box[1] : box[3] + 1, box[0] : box[2] + 1]
        np.maximum(part, share, out=part)
    factor = shown_size(image, height)[1] / image.shape[0]
    picture = attention_map(image, heat, title=title, height=height, highest=highest)
    pen = ImageDraw.Draw(picture)
    for number, box in enumerate(boxes * factor, start=1):
        pen.rectangle([float(value) for value in box], outline=PREDICTION)
        pen.text((float(box[0]) + 3, float(box[1]) + 1), str(number), fill=PREDICTION, font=_font(13))
    return picture


def attention_map(
    image: np.ndarray, attention: np.ndarray, *, title: str, height: int = 384, highest: float | None = None
) -> Image.Image:
    """Lay the attention of the pixels on one word (h, w) over ``image``: the stronger, the redder.

    Args:
        highest: attention that is wholly red, for pictures that compare; None: the map's maximum.
    """
    size = shown_size(image, height)
    limit = max(float(attention.max()) if highest is None else highest, 1e-12)
    scaled = (attention / limit * 255).astype(np.uint8)
    heat = np.asarray(Image.fromarray(scaled).resize(size, Image.Resampling.BICUBIC), dtype=float)[..., None] / 255
    grey = np.asarray(Image.fromarray(image).convert("RGB").resize(size, Image.Resampling.BICUBIC), dtype=float)
    mixed = grey * (1 - 0.65 * heat) + 0.65 * heat * np.array([255, 70, 40])
    caption = Image.new("RGB", (size[0], 28), PAPER)
    _write(ImageDraw.Draw(caption), (8, 6), title)
    return stack([Image.fromarray(mixed.astype(np.uint8)), caption])


def stand_out(attention: np.ndarray) -> np.ndarray | None:
    """What of an ``attention`` (..., h, w) is above its mean, as a share of the highest; None where it is flat.

    Flat is what nowhere has :data:`FLAT` times the mean: red all over, it would seem to mean something.
    """
    mean = float(attention.mean())
    if float(attention.max()) < FLAT * max(mean, 1e-12):
        return None
    above = np.clip(attention - mean, 0, None)
    return above / above.max()


def note(text: str, width: int) -> Image.Image:
    """A line below pictures, ``width`` pixels at least."""
    length = int(_font(15).getlength(text)) + 16
    panel = Image.new("RGB", (max(width, length), 28), PAPER)
    _write(ImageDraw.Draw(panel), (8, 6), text)
    return panel


def flat_sentences(numbers: Sequence[int], count: int) -> str:
    """What stands below the pictures of a report's sentences of which these, of ``count``, have flat attention."""
    if len(numbers) == count:
        return "All sentences look everywhere alike." if count > 1 else "The sentence looks everywhere alike."
    return f"Everywhere alike: sentence{'s' * (len(numbers) > 1)} {', '.join(map(str, numbers))}."


def report_panel(report: str, spans: Sequence[tuple[int, int]], scores: Sequence[float], *, width: int) -> Image.Image:
    """Draw ``report`` with each token's background as strong as its score in [0, 1].

    Args:
        spans: characters ``report[start:end]`` of each token.
    """
    pieces = pieces_of(report, spans, scores)
    canvas = Image.new("RGB", (width, 4000), PAPER)
    pen, x, y = ImageDraw.Draw(canvas), 10.0, 8
    for piece, score in pieces:
        text, face = text_and_font(piece, 16)
        length = pen.textlength(text, font=face)
        if x + length > width - 10 and text.strip():
            x, y = 10.0, y + 26
        if score is not None:
            pen.rectangle([x - 1, y, x + length + 1, y + 22], fill=shade(score))
        pen.text((x, y + 1), text, fill=INK, font=face)
        x += length
    return canvas.crop((0, 0, width, y + 34))


def pieces_of(report: str, spans: Sequence[tuple[int, int]], scores: Sequence[float]) -> list[tuple[str, float | None]]:
    """Cut ``report`` into tokens with their score and what lies between them (score None)."""
    pieces: list[tuple[str, float | None]] = []
    end = 0
    for (start, stop), score in zip(spans, scores, strict=True):
        if start > end:
            pieces.append((report[end:start], None))
        if stop > start:
            pieces.append((report[start:stop], float(score)))
        end = max(end, stop)
    return [*pieces, (report[end:], None)] if end < len(report) else pieces


def shade(score: float) -> tuple[int, int, int]:
    weight = min(max(score, 0.0), 1.0)
    red, green, blue = (round(p + (k - p) * weight) for p, k in zip(PAPER, KEYWORD, strict=True))
    return red, green, blue


def side_by_side(pictures: Sequence[Image.Image]) -> Image.Image:
    """Join pictures from left to right, 8 pixels apart, aligned at the top."""
    width = sum(picture.width for picture in pictures) + 8 * (len(pictures) - 1)
    joined, x = Image.new("RGB", (width, max(picture.height for picture in pictures)), PAPER), 0
    for picture in pictures:
        joined.paste(picture, (x, 0))
        x += picture.width + 8
    return joined


def stack(pictures: Sequence[Image.Image]) -> Image.Image:
    """Join pictures from top to bottom."""
    joined = Image.new("RGB", (max(p.width for p in pictures), sum(p.height for p in pictures)), PAPER)
    y = 0
    for picture in pictures:
        joined.paste(picture, (0, y))
        y += picture.height
    return joined


def _font(size: int) -> Font:
    return ImageFont.load_default(size=size)


def _write(pen: ImageDraw.ImageDraw, corner: tuple[float, float], text: str) -> None:
    shown, font = text_and_font(text, 14)
    pen.text(corner, shown, fill=INK, font=font)


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
    for position, name in enumerate(columns):
        pen.text((left + cell * position + cell // 2, 28), name, fill=INK, font=font, anchor="ma")
    low, span = np.nanmin(values), max(float(np.nanmax(values) - np.nanmin(values)), 1e-12)
    for r, name in enumerate(rows):
        pen.text((left - 12, top + 32 * r + 8), name, fill=INK, font=font, anchor="ra")
        for c in range(len(columns)):
            if np.isnan(values[r, c]):
                continue
            share = float(values[r, c] - low) / span
            corner = (left + cell * c, top + 32 * r)
            box = [*corner, corner[0] + cell - 2, corner[1] + 30]
            frame = (230, 120, 0) if values[r, c] == np.nanmax(values) else None
            pen.rectangle(box, fill=_between(LOW, HIGH, share), outline=frame, width=3)
            ink = PAPER if share > 0.55 else INK
            pen.text((corner[0] + cell // 2, corner[1] + 8), f"{values[r, c]:.2f}", fill=ink, font=font, anchor="ma")
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
