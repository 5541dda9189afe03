"""Pictures of predictions, reports and attention, as PNG and as one self-contained HTML page.

Images are uint8 (H, W), masks boolean (H, W), attention float (h, w): rows first, as a picture is seen. MONAI's PIL
reader gives (W, H): transpose before calling.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import binary_erosion

PREDICTION, TRUTH, KEYWORD = (255, 176, 0), (0, 200, 255), (255, 196, 61)
INK, PAPER = (24, 28, 33), (255, 255, 255)
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title><style>
body{{font:16px/1.55 system-ui,sans-serif;margin:0;background:#f5f6f8;color:#181c21}}
main{{max-width:1080px;margin:0 auto;padding:24px 16px 64px}}
h1{{font-size:26px;margin:8px 0}}h2{{font-size:18px;margin:0 0 8px}}
section{{background:#fff;border:1px solid #dfe3e8;border-radius:10px;padding:18px;margin:18px 0}}
img{{max-width:100%;height:auto;border-radius:6px;display:block}}
table{{border-collapse:collapse;font-variant-numeric:tabular-nums}}td,th{{padding:4px 14px 4px 0;text-align:left}}
.report{{line-height:1.9}}.report span{{border-radius:3px;padding:1px 0}}small{{color:#5b6570}}
figure{{margin:0 0 12px}}figcaption{{color:#5b6570;font-size:14px;margin-top:4px}}
.wide{{overflow-x:auto}}.group{{margin:32px 0 0}}svg{{max-width:640px;width:100%;font-size:12px;fill:#5b6570}}
.frames{{position:relative;display:inline-block;max-width:100%}}.frames img{{width:384px}}
.frames b{{position:absolute;border:2px solid #ffb000;color:#ffb000;font-size:13px;padding-left:3px}}
.frames b{{box-sizing:border-box}}.regions{{display:flex;flex-wrap:wrap;gap:0 24px}}.regions ol{{flex:1 1 300px}}
summary{{cursor:pointer;color:#1662a0}}
li[data-shares]{{cursor:pointer}}li[data-shares]:hover,li[data-shares]:focus{{background:#fff3d6;outline:none}}
</style></head><body><main><h1>{title}</h1>{body}</main><script>{script}</script></body></html>
"""
_SCRIPT = """
for (const line of document.querySelectorAll("li[data-shares]")) {
  const shares = JSON.parse(line.dataset.shares), frames = line.closest(".regions").querySelectorAll("b");
  const paint = on => frames.forEach(frame => {
    const share = on ? shares[frame.dataset.region] || 0 : 0;
    frame.style.background = on ? `rgba(255,70,40,${Math.min(0.75, 2 * share)})` : "";
  });
  for (const [name, on] of [["mouseenter", true], ["focus", true], ["mouseleave", false], ["blur", false]])
    line.addEventListener(name, () => paint(on));
}
"""


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
    factor = height / image.shape[0]
    size = (max(1, round(image.shape[1] * factor)), height)
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
    legend = Image.new("RGB", (width, 28), PAPER)
    pen, x = ImageDraw.Draw(legend), 8
    for name, colour in entries:
        pen.rectangle([x, 9, x + 18, 19], fill=colour)
        pen.text((x + 24, 6), name, fill=INK, font=_font(14))
        x += 44 + int(pen.textlength(name, font=_font(14)))
    return legend


def draw_boxes(image: np.ndarray, boxes: np.ndarray, texts: Sequence[str], *, height: int = 384) -> Image.Image:
    """Draw ``boxes`` (M, 4), x1, y1, x2, y2 in pixels, over ``image``, with a number each and ``texts`` below."""
    factor = height / image.shape[0]
    size = (max(1, round(image.shape[1] * factor)), height)
    canvas = Image.fromarray(image).convert("RGB").resize(size, Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(canvas)
    for number, box in enumerate(boxes * factor, start=1):
        pen.rectangle([float(value) for value in box], outline=PREDICTION, width=2)
        pen.text((float(box[0]) + 4, float(box[1]) + 2), str(number), fill=PREDICTION, font=_font(14))
    lines = [f"{number}: {text}" for number, text in enumerate(texts, start=1)] or ["no box"]
    legend = Image.new("RGB", (size[0], 8 + 20 * len(lines)), PAPER)
    for row, line in enumerate(lines):
        ImageDraw.Draw(legend).text((8, 4 + 20 * row), line, fill=INK, font=_font(14))
    return stack([canvas, legend])


def seen_boxes(
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
    factor = height / image.shape[0]
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
    size = (max(1, round(image.shape[1] * height / image.shape[0])), height)
    limit = max(float(attention.max()) if highest is None else highest, 1e-12)
    scaled = (attention / limit * 255).astype(np.uint8)
    heat = np.asarray(Image.fromarray(scaled).resize(size, Image.Resampling.BICUBIC), dtype=float)[..., None] / 255
    grey = np.asarray(Image.fromarray(image).convert("RGB").resize(size, Image.Resampling.BICUBIC), dtype=float)
    mixed = grey * (1 - 0.65 * heat) + 0.65 * heat * np.array([255, 70, 40])
    caption = Image.new("RGB", (size[0], 28), PAPER)
    ImageDraw.Draw(caption).text((8, 6), title, fill=INK, font=_font(14))
    return stack([Image.fromarray(mixed.astype(np.uint8)), caption])


def report_panel(
    report: str, spans: Sequence[tuple[int, int]], scores: Sequence[float], *, width: int, font: str | None = None
) -> Image.Image:
    """Draw ``report`` with each token's background as strong as its score in [0, 1].

    Args:
        spans: characters ``report[start:end]`` of each token.
        font: a font file; the default one has no Chinese characters.
    """
    face = ImageFont.truetype(font, 16) if font else _font(16)
    pieces = _pieces(report, spans, scores)
    canvas = Image.new("RGB", (width, 4000), PAPER)
    pen, x, y = ImageDraw.Draw(canvas), 10.0, 8
    for text, score in pieces:
        length = pen.textlength(text, font=face)
        if x + length > width - 10 and text.strip():
            x, y = 10.0, y + 26
        if score is not None:
            pen.rectangle([x - 1, y, x + length + 1, y + 22], fill=_shade(score))
        pen.text((x, y + 1), text, fill=INK, font=face)
        x += length
    return canvas.crop((0, 0, width, y + 34))


def report_html(report: str, spans: Sequence[tuple[int, int]], scores: Sequence[float]) -> str:
    """``report`` as HTML, shaded like :func:`report_panel`; the score is each token's tooltip."""
    parts = []
    for text, score in _pieces(report, spans, scores):
        colour = "" if score is None else f' style="background:rgb{_shade(score)}" title="{score:.2f}"'
        parts.append(html.escape(text) if score is None else f"<span{colour}>{html.escape(text)}</span>")
    return f'<p class="report">{"".join(parts)}</p>'


def _pieces(report: str, spans: Sequence[tuple[int, int]], scores: Sequence[float]) -> list[tuple[str, float | None]]:
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


def _shade(score: float) -> tuple[int, int, int]:
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


def image_html(picture: Image.Image, caption: str) -> str:
    """A figure with the picture inside the page, as JPEG: a tenth of what PNG takes for speckle."""
    buffer = io.BytesIO()
    picture.convert("RGB").save(buffer, format="JPEG", quality=90, subsampling=0)
    data = base64.b64encode(buffer.getvalue()).decode()
    text = html.escape(caption)
    return f'<figure><img alt="{text}" src="data:image/jpeg;base64,{data}"><figcaption>{text}</figcaption></figure>'


def table_html(rows: dict[str, float | str]) -> str:
    """A table of names and values; numbers with three decimals."""
    cells = ((html.escape(k), f"{v:.3f}" if isinstance(v, float) else html.escape(str(v))) for k, v in rows.items())
    return "<table>" + "".join(f"<tr><th>{name}</th><td>{value}</td></tr>" for name, value in cells) + "</table>"


def section_html(title: str, *parts: str) -> str:
    """A titled box of the page."""
    return f"<section><h2>{html.escape(title)}</h2>{''.join(parts)}</section>"


def page_html(title: str, *sections: str) -> str:
    """One page that needs no other file and no network."""
    body = "".join(sections)
    return _PAGE.format(title=html.escape(title), body=body, script=_SCRIPT if "data-shares" in body else "")


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=size)


if __name__ == "__main__":
    from common.run_page import main

    main()
