"""Long axes of predicted and true nodules, their agreement, and Dice by size and TI-RADS."""

import csv
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.data import MetaTensor
from PIL import Image

from common.results.borders import BorderDistances
from common.results.page import write_page
from common.results.sizes import LongAxes, axes_of
from common.results.strata import by_level, by_size, write_strata
from tests.dicom_files import dicom_file


def ellipse(height, width, *, long, short, upright=False):
    """A boolean ellipse whose axes are shares of the sides."""
    y, x = (np.mgrid[:height, :width] + 0.5) / np.array([height, width]).reshape(2, 1, 1) - 0.5
    if upright:
        x, y = y, x
    return (x / (long / 2)) ** 2 + (y / (short / 2)) ** 2 < 1


def test_axes_are_those_of_the_file_not_of_the_stretched_mask(tmp_path):
    wide = ellipse(64, 64, long=0.5, short=0.25)  # of an image 640 wide and 320 high
    meta = {"spatial_shape": (640, 320), "filename_or_obj": str(tmp_path / "a.png")}
    predicted, true, *in_mm = axes_of(meta, wide, wide.T)
    assert predicted == pytest.approx(320, rel=0.05) and true == pytest.approx(160, rel=0.1)
    assert np.isnan(in_mm).all()
    assert axes_of(meta, np.zeros_like(wide), wide)[0] == 0


def test_in_mm_where_the_file_tells_the_size_of_a_pixel(tmp_path):
    file = dicom_file(tmp_path / "a.dcm", np.zeros((320, 640), np.uint8), PixelSpacing=[0.1, 0.05])
    wide = ellipse(64, 64, long=0.5, short=0.25)
    meta = {"spatial_shape": (640, 320), "filename_or_obj": str(file)}
    axes = axes_of(meta, wide, wide.T)
    assert axes[2] == pytest.approx(320 * 0.05, rel=0.05) and axes[3] == pytest.approx(160 * 0.1, rel=0.1)


def told(handler, pairs, *, size, file):
    """What ``handler`` tells of predicted and true masks (H, W) of an image ``size``, width and height, in ``file``."""
    cases = []
    for pair in pairs:
        image = MetaTensor(torch.zeros(1, 64, 64), meta={"spatial_shape": size, "filename_or_obj": str(file)})
        masks = [torch.tensor(mask if handler.rows_first else mask.T)[None].float() for mask in pair]
        cases.append({"image": image, "pred": masks[0], "label": masks[1]})
    engine = Engine(lambda engine, batch: batch)
    engine.state = SimpleNamespace(metrics={}, metric_details={}, output=cases)
    handler._forget(engine)
    handler._measure(engine)
    handler._tell(engine)
    return engine.state


@pytest.mark.parametrize("rows_first", [True, False])
@pytest.mark.parametrize(("file", "unit", "pixel"), [("a.png", "px", (1, 1)), ("a.dcm", "mm", (0.1, 0.05))])
def test_borders_are_as_far_apart_as_in_the_file(rows_first, file, unit, pixel, tmp_path):
    """A stretched mask, moved by four of its pixels: the file is ten times as wide and five times as high."""
    dicom_file(tmp_path / "a.dcm", np.zeros((320, 640), np.uint8), PixelSpacing=[0.1, 0.05])
    mask, empty = np.zeros((64, 64), bool), np.zeros((64, 64), bool)
    mask[20:40, 20:40] = True
    pairs = [(np.roll(mask, 4, axis=axis), mask) for axis in (0, 1)] + [(mask, mask), (empty, mask)]
    state = told(BorderDistances(rows_first=rows_first), pairs, size=(640, 320), file=tmp_path / file)
    distances = state.metric_details[f"hd95_{unit}"].numpy()
    assert distances == pytest.approx(
        [4 * 5 * pixel[0], 4 * 10 * pixel[1], 0, np.hypot(320 * pixel[0], 640 * pixel[1])]
    )
    assert state.metrics[f"hd95_{unit}"] == pytest.approx(distances.mean())
    shares = state.metric_details[f"nsd_{unit}"].numpy()
    assert shares[2:] == pytest.approx([1, 0]) and ((shares[:2] > 0) & (shares[:2] < 1)).all()


@pytest.mark.parametrize("rows_first", [True, False])
def test_the_handler_tells_bias_and_limits(rows_first, tmp_path):
    masks = [ellipse(64, 64, long=share, short=0.2) for share in (0.5, 0.6, 0.7)]
    truth = [ellipse(64, 64, long=share, short=0.2) for share in (0.5, 0.5, 0.5)]
    empty = np.zeros((64, 64), bool)
    pairs = zip([*masks, empty], [*truth, truth[0]], strict=True)
    state = told(LongAxes(rows_first=rows_first), pairs, size=(128, 64), file="a.png")
    true = state.metric_details["long_axis_px_true"].numpy()
    predicted = state.metric_details["long_axis_px"].numpy()
    assert true == pytest.approx([64] * 4, rel=0.05) and predicted == pytest.approx([64, 77, 90, 0], rel=0.05)
    gains = (predicted - true)[:3]
    assert state.metrics["long_axis_bias_px"] == pytest.approx(gains.mean())
    assert state.metrics["long_axis_limits_px"] == pytest.approx(1.96 * gains.std(ddof=1))


def test_thirds_by_size_and_levels():
    columns = {"long_axis_px_true": [10, 20, 30, 40, 50, 60, 70, 80, 90, 0], "dice": [0.5] * 10}
    groups = by_size(columns)
    assert list(groups) == ["small: 10 to 30 px", "middle: 40 to 60 px", "large: 70 to 90 px"]
    assert [list(positions) for positions in groups.values()] == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    assert by_size({"long_axis_px_true": [1, 2, 3]}) == {}
    assert {name: list(at) for name, at in by_level(["4a", "", "2", "4a"]).items()} == {
        "TI-RADS 2": [2], "TI-RADS 4a": [0, 3],
    }  # fmt: skip


def test_the_page_shows_groups_and_agreement(tmp_path):
    axes = np.linspace(10, 90, 9)
    columns = {"dice": np.linspace(0.1, 0.9, 9).tolist(), "long_axis_px": (axes + 2).tolist(),
               "long_axis_px_true": axes.tolist()}  # fmt: skip
    write_strata(tmp_path, columns, ["a", "a", "a", "b", "c", "d", "e", "f", "g"], ["4a"] * 4 + [""] * 5)
    with open(tmp_path / "strata.csv", newline="") as file:
        rows = {row["group"]: row for row in csv.DictReader(file)}
    assert rows["TI-RADS 4a"]["cases"] == "4" and rows["TI-RADS 4a"]["patients"] == "2"
    assert float(rows["large: 70 to 90 px"]["dice"]) == pytest.approx(0.8)
    assert rows["small: 10 to 30 px"]["low"] == ""  # one patient tells no interval
    (tmp_path / "metrics.json").write_text(json.dumps({"dice": 0.5}))
    table = [["case", *columns], *([f"{n}.png", *row] for n, row in enumerate(zip(*columns.values(), strict=True)))]
    (tmp_path / "per_case.csv").write_text("\n".join(",".join(map(str, row)) for row in table))
    page = write_page(tmp_path).read_text()
    assert "TI-RADS 4a" in page and "large: 70 to 90 px" in page and "long axes: each dot" in page


def test_what_an_earlier_evaluation_wrote_goes_and_undefined_dice_counts_for_nothing(tmp_path):
    write_strata(tmp_path, {"dice": [0.5, 0.7, float("nan")]}, ["a", "b", "c"], ["4a", "4a", "4a"])
    with open(tmp_path / "strata.csv", newline="") as file:
        (row,) = csv.DictReader(file)
    assert row["cases"] == "2" and float(row["dice"]) == pytest.approx(0.6)
    write_strata(tmp_path, {"dice": [0.5]}, ["a"], [])
    assert not (tmp_path / "strata.csv").exists()


def test_an_image_without_nodule_is_in_no_third(tmp_path):
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    write_strata(tmp_path, {"dice": [1.0], "long_axis_px_true": [0.0]}, ["a"], [])
    assert not (tmp_path / "strata.csv").exists()
