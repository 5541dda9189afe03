"""Lesion boxes of studies: formats, bad values, and what is cut out."""

import json
import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from d2rnet.report import boxes as boxes_of_reports
from d2rnet.report.boxes import CropRegionsd, StandardiseRegionsd, read_boxed_studies
from monai.transforms import Compose
from PIL import Image

from common.transforms import views


@pytest.fixture
def folder(tmp_path):
    """A function that writes two studies, 60 pixels wide and 40 high, with these boxes, and returns the folder."""
    (tmp_path / "images").mkdir()
    ramp = np.tile(np.arange(60, dtype=np.uint8) * 4, (40, 1))
    for name in ("a", "b"):
        Image.fromarray(ramp).save(tmp_path / "images" / f"{name}.png")

    def write(first, second=(), **more):
        entries = [{"id": n, "report": "Heart.", "image_path": [f"{n}.png"], "boxes": list(b), **more}
                   for n, b in (("a", first), ("b", second))]  # fmt: skip
        (tmp_path / "annotation.json").write_text(json.dumps({"train": entries, "val": entries, "test": entries}))
        return str(tmp_path)

    return write


def test_published_boxes_become_corners_without_empty_slots(folder):
    first, second = read_boxed_studies(folder([[10, 5, 20, 10], [-1, -1, -1, -1]]), "train")
    assert first["boxes"].tolist() == [[10, 5, 30, 15]] and first["scores"].tolist() == [1.0]
    assert second["boxes"].shape == (0, 4)


def test_corners_are_told_by_their_values(folder, caplog):
    first, second = read_boxed_studies(folder([[10, 5, 55, 35]], [[2, 2, 8, 9]]), "train")
    assert first["boxes"].tolist() == [[10, 5, 55, 35]] and second["boxes"].tolist() == [[2, 2, 8, 9]]
    assert "read as x1, y1, x2, y2" in caplog.text


def test_boxes_are_cut_at_the_border_and_empty_ones_dropped(folder, caplog):
    caplog.set_level(logging.WARNING)
    boxes = [[50, 30, 30, 5], [5, 5, 0, 4], [100, 5, 4, 4]]
    first, _ = read_boxed_studies(folder(boxes), "train")
    assert first["boxes"].tolist() == [[50, 30, 60, 35]]
    assert "2 boxes without area in their image left out, 1 cut off" in caplog.text


@pytest.mark.parametrize(
    ("boxes", "more", "message"),
    [
        ([[1, 2, float("nan"), 4]], {}, "hold a value that is no number"),
        ([[1, 2, 3]], {}, "are not four numbers each"),
        ([["left", 2, 3, 4]], {}, "are not four numbers each"),
        ([[1, 2, 3, 4]], {"scores": [0.5, 0.6]}, "1 boxes but 2 scores"),
        ([[1, 2, 3, 4]], {"scores": [None]}, "the score None is no number from 0 to 1"),
        ([[1, 2, 3, 4]], {"scores": [float("nan")]}, "the score nan is no number from 0 to 1"),
        ([[1, 2, 3, 4]], {"scores": [float("inf")]}, "the score inf is no number from 0 to 1"),
        ([[1, 2, 3, 4]], {"scores": [-1]}, "the score -1 is no number from 0 to 1"),
        ([[1, 2, 3, 4]], {"scores": 0.5}, "scores is 0.5, no list"),
        ([[1, 2, 3, 4]], {"box_labels": [7]}, "the label 7 is no text"),
        ([1, 2, 3, 4], {}, "1 are not four numbers each"),
    ],
)
def test_bad_boxes_are_named(folder, boxes, more, message):
    with pytest.raises(ValueError, match=f"boxes of study 'a': .*{message}"):
        read_boxed_studies(folder(boxes, **more), "train")


@pytest.mark.parametrize("kind", ["png", "jpg"])
def test_boxes_in_pixels_of_another_size_are_refused_where_the_image_is_opened(folder, kind):
    root = Path(folder([[1, 2, 10, 10]], width=30, height=20))
    if kind == "jpg":
        content = (root / "annotation.json").read_text()
        (root / "annotation.json").write_text(content.replace("a.png", "a.jpg"))
        Image.open(root / "images" / "a.png").save(root / "images" / "a.jpg")
    study = read_boxed_studies(str(root), "train")[0]
    with pytest.raises(ValueError, match=rf"boxes of study 'a': .* is 30x20 pixels, its file .*a\.{kind}' is 60x40"):
        CropRegionsd(count=1, size=48)(study)
    right = read_boxed_studies(folder([[1, 2, 10, 10]], width=60, height=40), "train")[0]
    assert CropRegionsd(count=1, size=48)(right)["crops"].shape == (1, 48, 48)


def test_boxes_with_scores_below_one_are_a_detectors(folder):
    labelled = read_boxed_studies(folder([[1, 2, 10, 10]], [[1, 2, 9, 9]], scores=[1.0]), "train")
    found = read_boxed_studies(folder([[1, 2, 10, 10]], [[-1, -1, -1, -1]], scores=[0.7]), "train")
    bare = read_boxed_studies(folder([[1, 2, 10, 10]]), "train")
    assert [[study["detected"] for study in studies] for studies in (labelled, found, bare)] == [
        [False, False],
        [True, True],
        [False, False],
    ]


def regions_of(count, size, coordinates=True):
    return Compose([CropRegionsd(count=count, size=size), StandardiseRegionsd(count=count, coordinates=coordinates)])


@pytest.mark.parametrize("box", [[95, 10, 99, 30], [-20, -20, -5, -5], [59.99999, 0, 60, 5]])
def test_a_box_beside_the_image_still_gives_a_region(folder, box):
    study = read_boxed_studies(folder([[20, 10, 10, 20]]), "train")[0]
    found = regions_of(1, 48)({**study, "boxes": np.array([box], dtype=np.float32)})
    assert found["regions"].isfinite().all() and found["region_mask"].all()


def test_a_region_size_that_cannot_be_encoded_is_refused():
    with pytest.raises(ValueError, match="region_size: 50 must be a multiple of 4, 48 at least"):
        CropRegionsd(count=1, size=50)


def test_a_study_without_boxes_has_none(folder):
    root = Path(folder([]))
    content = json.loads((root / "annotation.json").read_text())
    for entry in content["test"]:
        del entry["boxes"]
    (root / "annotation.json").write_text(json.dumps(content))
    study = regions_of(2, 64)(read_boxed_studies(str(root), "test")[0])
    assert study["regions"].shape == (2, 3, 64, 64) and not study["region_mask"].any()


def test_regions_are_square_standardised_and_the_surest_first(folder):
    study = read_boxed_studies(folder([[0, 10, 20, 10], [20, 10, 10, 20], [40, 0, 10, 10]]), "train")[0]
    found = regions_of(2, 48, coordinates=False)({**study, "scores": np.array([0.2, 0.9, 0.5])})
    assert found["region_mask"].tolist() == [True, True]
    torch.testing.assert_close(found["regions"].mean([1, 2, 3]), torch.zeros(2), atol=1e-4, rtol=0)
    torch.testing.assert_close(found["regions"].std([1, 2, 3]), torch.ones(2), atol=1e-2, rtol=0)
    tall = found["regions"][0, 0]
    assert tall[:, 2].std() < 1e-3 < tall[24].std()  # padded left and right, a ramp in the middle


def test_a_region_knows_where_it_lies(folder):
    study = read_boxed_studies(folder([[20, 10, 10, 20]]), "train")[0]
    (region,) = regions_of(1, 48)(study)["regions"]
    with Image.open(study["images"][0]) as image:
        width, height = image.size
    x, y = (region[1:].mean([1, 2]) + 1) / 2
    assert float(x * width) == pytest.approx(25, abs=0.1) and float(y * height) == pytest.approx(20, abs=0.1)
    assert float(region[1].amax() - region[1].amin()) / 2 * width == pytest.approx(20 * 47 / 48, abs=0.1)
    plain = regions_of(1, 48, coordinates=False)(study)["regions"][0]
    torch.testing.assert_close(plain[0], region[0])
    assert torch.equal(plain[0], plain[2])


@pytest.fixture
def large(tmp_path):
    """A smooth JPEG file of an X-ray's size, 1.3 MB of one, with two boxes."""
    rows, columns = np.mgrid[:3056, :2544]
    waves = 120 + 60 * np.sin(rows / 90) * np.cos(columns / 70) + 40 * np.sin((rows + columns) / 45)
    Image.fromarray(waves.clip(0, 255).astype(np.uint8)).save(tmp_path / "large.jpg", quality=90)
    return str(tmp_path / "large.jpg")


@pytest.mark.parametrize(("boxes", "scale"), [([[300, 400, 900, 1100], [1500, 200, 2100, 600]], 4),
                                              ([[300, 400, 900, 1100], [1500, 200, 1900, 500]], 2),
                                              ([[300, 400, 900, 1100], [1500, 200, 1600, 300]], 1)])  # fmt: skip
def test_a_large_file_is_decoded_once_and_no_finer_than_its_regions_need(large, monkeypatch, boxes, scale):
    sizes = []
    for module in (boxes_of_reports, views):

        def counted(path, real=module.open_image, **options):
            sizes.append(real(path, **options).size)
            return real(path, **options)

        monkeypatch.setattr(module, "open_image", counted)
    study = {"images": [large], "boxes": np.array(boxes, dtype=np.float32), "scores": np.array([0.9, 0.8])}
    found = Compose([CropRegionsd(count=2, size=64, views=96), views.LoadViewsd(views=1, side=96)])(study)
    assert sizes == [(2544 // scale, 3056 // scale)] and "opened" not in found
    whole = np.asarray(Image.open(large), dtype=np.float32)
    for crop, extent, (x1, y1, x2, y2) in zip(found["crops"], found["extents"], boxes, strict=True):
        side = max(x2 - x1, y2 - y1)
        square = np.full((side, side), whole[y1:y2, x1:x2].mean(), dtype=np.float32)
        top, left = (side - (y2 - y1)) // 2, (side - (x2 - x1)) // 2
        square[top : top + y2 - y1, left : left + x2 - x1] = whole[y1:y2, x1:x2]
        exact = np.asarray(Image.fromarray(square).resize((64, 64), Image.Resampling.BILINEAR))
        assert np.abs(crop.numpy() - exact)[2:-2, 2:-2].mean() < 1.5
        corners = [(x1 - left) / 2544, (y1 - top) / 3056, (x1 - left + side) / 2544, (y1 - top + side) / 3056]
        np.testing.assert_allclose(extent, corners, atol=2 * scale / 2544)
    alone = views.LoadViewsd(views=1, side=96)({"images": [large]})
    assert (found["image"].float() - alone["image"].float()).abs().mean() < 0.3
