import numpy as np
import pytest
from PIL import Image

from common.results import blocks, drawing, fonts

IMAGE = np.full((40, 60), 100, np.uint8)
MASK = np.zeros((40, 60), bool)
MASK[10:30, 20:40] = True


def colours(picture):
    return {tuple(pixel) for pixel in np.asarray(picture.convert("RGB")).reshape(-1, 3)}


def test_overlay_has_both_outlines_and_a_legend():
    picture = drawing.overlay(IMAGE, MASK, np.roll(MASK, 8, axis=1), height=80)
    assert picture.size == (192, 108)  # as wide as the legend, of which nothing is cut
    assert drawing.overlay(IMAGE, MASK, height=200).size == (300, 228)
    assert {drawing.PREDICTION, drawing.TRUTH} <= colours(picture)
    assert drawing.TRUTH not in colours(drawing.overlay(IMAGE, MASK, height=80))
    outline = np.asarray(drawing.overlay(IMAGE, MASK, height=80))[:80]
    assert tuple(outline[40, 60]) == (100, 100, 100)  # the inside stays visible


def test_overlay_refuses_a_mask_of_another_shape():
    with pytest.raises(ValueError, match=r"prediction: shape \(60, 40\) is not the image's \(40, 60\)"):
        drawing.overlay(IMAGE, MASK.T)


def test_attention_is_brightest_where_it_is_highest():
    attention = np.zeros((4, 6))
    attention[1, 2] = 0.3
    picture = np.asarray(drawing.attention_map(IMAGE, attention, title="word", height=80)).astype(int)[:80]
    row, column = np.unravel_index((picture[..., 0] - picture[..., 2]).argmax(), picture.shape[:2])
    assert 20 <= row < 40 and 40 <= column < 60


def test_report_is_shaded_and_escaped():
    html = blocks.render(
        "Title", [blocks.Section("One", [blocks.words("A <b> nodule.", [(0, 1), (6, 12)], [0.0, 1.0])])]
    )
    assert "&lt;b&gt;" in html and f"rgb{drawing.KEYWORD}" in html and "rgb(255, 255, 255)" in html
    panel = drawing.report_panel("A nodule. " * 20, [(2, 8)], [1.0], width=300)
    assert panel.width == 300 and drawing.KEYWORD in colours(panel) and panel.height > 60


def test_chinese_is_drawn_by_a_font_of_the_machine_or_left_to_the_page(monkeypatch):
    assert fonts.text_and_font("left lobe", 14)[0] == "left lobe"
    monkeypatch.setattr(fonts, "_wide_font", lambda size: None)
    assert fonts.text_and_font("结节 nodule 低回声", 14)[0] == "... nodule ..."
    monkeypatch.undo()
    fonts._wide_font.cache_clear()
    monkeypatch.setattr(fonts, "FILES", ("no such font.ttf", "DejaVuSans.ttf"))
    text, font = fonts.text_and_font("结节", 14)
    assert text == "结节" and font.getname()[0] == "DejaVu Sans"
    fonts._wide_font.cache_clear()


def test_page_is_one_file():
    figure = blocks.figure(Image.new("RGB", (4, 4)), "a < b")
    whole = blocks.render("Title", [blocks.Section("One", [figure, blocks.table([("dice", 0.5)])])])
    assert whole.startswith("<!doctype html>") and "0.500" in whole and "a &lt; b" in whole
    assert "://" not in whole


def test_side_by_side_and_stack():
    one, two = Image.new("RGB", (10, 5)), Image.new("RGB", (20, 9))
    assert drawing.side_by_side([one, two]).size == (38, 9)
    assert drawing.stack([one, two]).size == (20, 14)
