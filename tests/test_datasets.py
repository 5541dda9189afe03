import csv
import json
import logging
import shutil

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import LoadImaged
from PIL import Image

from common.datasets import splits as splits_by_case
from common.datasets.ddti import measure_nodules, read_ddti, read_ddti_xml
from common.datasets.layouts import list_images, read_dataset
from common.datasets.splits import inside
from common.datasets.tn3k import read_tg3k, read_tn3k
from common.images import files
from common.images.masks import LoadMaskd, draw_polygons, read_mask
from common.transforms.augment import RandMirrorReportd


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def square(size=(40, 60), box=(10, 30, 20, 30)):
    mask = np.zeros(size, np.uint8)
    mask[box[0] : box[1], box[2] : box[3]] = 255
    return mask


@pytest.fixture
def ratn(tmp_path, synthetic):
    return shutil.copytree(synthetic, tmp_path / "ratn")


@pytest.fixture
def ddti(tmp_path):
    root = tmp_path / "ddti"
    rows = []
    for case in range(30):
        for index in range(2):
            name = f"{case}_{index}.png"
            save(root / "image" / name, np.full((40, 60), 90, np.uint8))
            save(root / "mask" / name, square())
            rows.append({"image": name, "case": str(case), "tirads": "4a" if case % 2 else ""})
    with open(root / "cases.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return root


def test_synthetic_is_read_as_ratn_and_split_by_report(synthetic):
    cases = {split: read_dataset(str(synthetic), split) for split in ("train", "validation", "test")}
    reports = {split: {case["case"] for case in group} for split, group in cases.items()}
    assert not reports["train"] & reports["test"] and not reports["train"] & reports["validation"]
    assert sum(map(len, reports.values())) == 12
    case = cases["train"][0]
    assert case["report"] and any(sentence["about_image"] for sentence in case["sentences"])


def test_no_layout_says_what_was_looked_for(tmp_path):
    with pytest.raises(ValueError, match=r"none of the known layouts \(it is empty\): RATN: .*DDTI XML.*TG3K"):
        read_dataset(str(tmp_path), "train")
    (tmp_path / "data.xlsx").touch()
    with pytest.raises(ValueError, match=r"layouts \(a table is read from cases.csv, not from 'data.xlsx'\): RATN"):
        read_dataset(str(tmp_path), "train")
    (tmp_path / "cases.csv").write_text("Picture;mask;report\na.png;b.png;c\n")
    with pytest.raises(ValueError, match=r"layouts \(the columns of its cases.csv: mask, picture, report\): RATN"):
        read_dataset(str(tmp_path), "train")
    with pytest.raises(FileNotFoundError, match="dataset_dir: no folder 'nowhere'"):
        read_dataset("nowhere", "train")


def test_image_without_mask_is_named(ratn):
    victim = next((ratn / "masks").iterdir())
    victim.unlink()
    with pytest.raises(FileNotFoundError, match=f"mask of .*no file .*{victim.name}"):
        [read_dataset(str(ratn), split) for split in ("train", "validation", "test")]


def test_mask_of_another_size_is_named(ratn):
    victim = json.loads((ratn / "reports.json").read_text())[0]["images"][0]
    save(ratn / "masks" / victim, square())
    with pytest.raises(ValueError, match=f"mask: .*{victim}.* is 60x40 pixels, its image .* is 64x64"):
        read_dataset(str(ratn), "train")


@pytest.mark.parametrize("damage", [b"not a picture", None])
def test_corrupt_png_is_named(ratn, damage):
    name = json.loads((ratn / "reports.json").read_text())[0]["images"][0]
    path = ratn / "images" / name
    content = path.read_bytes()
    path.write_bytes(damage or content[: len(content) // 2])
    with pytest.raises(ValueError, match=f"image: .*{name}.* is damaged or no image"):
        read_dataset(str(ratn), "train")


def test_report_without_images_and_unknown_report_are_named(ratn):
    reports = json.loads((ratn / "reports.json").read_text())
    reports[0]["images"] = []
    (ratn / "reports.json").write_text(json.dumps(reports))
    with pytest.raises(ValueError, match="report 'P0000' has no image"):
        read_dataset(str(ratn), "train")
    (ratn / "reports.json").write_text(json.dumps(reports[1:]))
    with pytest.raises(ValueError, match=r"report id 'P0000' of 'train' is not in reports\.json"):
        read_dataset(str(ratn), "train")


@pytest.mark.parametrize("what", ["reports", "images"])
def test_what_stands_in_several_splits_is_told(ratn, what, caplog):
    splits = json.loads((ratn / "splits.json").read_text())
    reports = json.loads((ratn / "reports.json").read_text())
    if what == "reports":
        splits["test"].append(splits["train"][0])
    else:
        by_id = {entry["report_id"]: entry for entry in reports}
        by_id[splits["test"][0]]["images"].append(by_id[splits["train"][0]]["images"][0])
    (ratn / "splits.json").write_text(json.dumps(splits))
    (ratn / "reports.json").write_text(json.dumps(reports))
    for split in ("train", "validation", "test"):
        caplog.clear()
        read_dataset(str(ratn), split, check=False)
        assert any(f"1 {what} stand in several splits, such as " in line for line in caplog.messages)


def test_a_path_may_not_leave_the_folder(ratn):
    reports = json.loads((ratn / "reports.json").read_text())
    reports[0]["images"] = ["../../secret.png"]
    (ratn / "reports.json").write_text(json.dumps(reports))
    with pytest.raises(ValueError, match="leaves the data set's folder"):
        read_dataset(str(ratn), "train")


def test_ratn_table(tmp_path):
    save(tmp_path / "i" / "a.png", square())
    save(tmp_path / "m" / "a.png", square())
    (tmp_path / "cases.csv").write_text("image,mask,report_id,report,split\ni/a.png,m/a.png,r1,A nodule.,train\n")
    (case,) = read_dataset(str(tmp_path), "train")
    assert case["report"] == "A nodule." and case["case"] == "r1"
    with pytest.raises(ValueError, match="no image in split 'test'"):
        read_dataset(str(tmp_path), "test")


def test_ddti_splits_by_case_and_composes_templated_reports(ddti):
    splits = {split: read_dataset(str(ddti), split) for split in ("train", "validation", "test")}
    assert sum(map(len, splits.values())) == 60
    assert all(splits_by_case.fold(case["case"]) == 0 for case in splits["test"])
    by_case = {}
    for case in splits["train"]:
        by_case.setdefault(case["case"], set()).add(case["report"])
        (own,) = (s for s in case["sentences"] if s["about_image"])
        assert "about 20 x 50 percent" in own["text"]  # 1/6 of the width, half of the height, to ten percent
        assert ("TI-RADS" in case["report"]) == (case["tirads"] != "")
    assert all(len(reports) == 1 for reports in by_case.values())
    assert read_ddti(str(ddti), "test") == splits["test"]


def test_nodules_are_measured_on_the_mask():
    mask = square() > 0
    mask[0, 0] = True  # a slip of the pen
    (nodule,) = measure_nodules(mask)
    assert nodule == pytest.approx({"x": 24.5 / 60, "y": 19.5 / 40, "width": 1 / 6, "height": 0.5, "ratio": 2})


def xml_case(number, svg):
    mark = f"<mark><image>1</image><svg>{svg}</svg></mark>"
    return (
        f"<case><number>{number}</number><tirads>4b</tirads>{mark}<mark><image>2</image><svg>[oops</svg></mark></case>"
    )


def test_ddti_xml(tmp_path):
    points = [{"x": 10, "y": 5}, {"x": 30, "y": 5}, {"x": 30, "y": 15}, {"x": 10, "y": 15}]
    svg = json.dumps([{"points": points, "annotation": {}, "regionType": "freehand"}])
    for number in range(1, 13):
        (tmp_path / f"{number}.xml").write_text(xml_case(number, svg))
        save(tmp_path / f"{number}_1.jpg", np.full((40, 60), 90, np.uint8))
    cases = [case for split in ("train", "validation", "test") for case in read_dataset(str(tmp_path), split)]
    assert len(cases) == 12 and all("4b" in case["report"] for case in cases)
    data = LoadMaskd()(LoadImaged(keys="image", ensure_channel_first=True)(cases[0]))
    assert data["label"].shape == data["image"].shape
    assert data["label"][0, 20, 10] == 1 and data["label"][0, 10, 20] == 0  # (x, y): wide, not tall
    (tmp_path / "1.xml").write_text("<case>")
    with pytest.raises(ValueError, match=r"1\.xml.* is damaged"):
        [read_ddti_xml(str(tmp_path), split) for split in ("train", "validation", "test")]


def test_tn3k_uses_indices_into_the_numerically_sorted_list(tmp_path):
    for folder in ("trainval-image", "trainval-mask", "test-image", "test-mask"):
        for name in ("2", "10", "1"):
            save(tmp_path / folder / f"{name}.jpg", square())
    (tmp_path / "tn3k-trainval-fold0.json").write_text(json.dumps({"train": [0, 2], "val": [1]}))
    assert [case["case"] for case in read_dataset(str(tmp_path), "train")] == ["1", "10"]
    assert [case["case"] for case in read_tn3k(str(tmp_path), "validation")] == ["2"]
    assert [case["case"] for case in read_tn3k(str(tmp_path), "test")] == ["test-1", "test-2", "test-10"]
    with pytest.raises(FileNotFoundError, match=r"tn3k-trainval-fold1\.json"):
        read_tn3k(str(tmp_path), "train", fold=1)
    (tmp_path / "tn3k-trainval-fold0.json").write_text(json.dumps({"train": [7], "val": []}))
    with pytest.raises(ValueError, match="index 7 of 'train', but there are 3 images"):
        read_tn3k(str(tmp_path), "train")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"train": [0]}, "no lists 'train' and 'val' of indices"),
        ({"train": [-1], "val": [1]}, "no lists 'train' and 'val' of indices"),
        ([], "no lists 'train' and 'val' of indices"),
    ],
)
def test_a_bad_fold_file_is_named(tmp_path, content, message):
    for number in range(2):
        save(tmp_path / "thyroid-image" / f"{number}.png", np.zeros((40, 60), np.uint8))
        save(tmp_path / "thyroid-mask" / f"{number}.png", square())
    (tmp_path / "tg3k-trainval.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=message):
        read_tg3k(str(tmp_path), "train")


def test_frames_of_both_splits_are_told(tmp_path, caplog):
    for number in range(2):
        save(tmp_path / "thyroid-image" / f"{number}.png", np.zeros((40, 60), np.uint8))
        save(tmp_path / "thyroid-mask" / f"{number}.png", square())
    (tmp_path / "tg3k-trainval.json").write_text(json.dumps({"train": [0, 1], "val": [1], "all": [0, 1]}))
    read_tg3k(str(tmp_path), "train")
    assert any("1 images stand in several splits, such as '1'" in line for line in caplog.messages)


def test_tg3k_has_no_test_split(tmp_path):
    for folder in ("thyroid-image", "thyroid-mask"):
        save(tmp_path / folder / "1.jpg", square())
    (tmp_path / "tg3k-trainval.json").write_text(json.dumps({"train": [0], "val": []}))
    assert len(read_dataset(str(tmp_path), "train")) == 1
    with pytest.raises(ValueError, match="split: 'test' is not in"):
        read_tg3k(str(tmp_path), "test")
    parts = []
    for split in ("train", "validation", "test"):  # one image: it is in one part
        try:
            parts += read_dataset(str(tmp_path), split, test_fold=0)
        except ValueError as error:
            assert "has no image in split" in str(error)
    assert len(parts) == 1


@pytest.mark.parametrize(
    "pixels",
    [np.stack([square()] * 3, 2), square().astype(np.uint16) * 200 + 100, square().astype(np.int32) * 9, square() > 0],
)
def test_other_pixel_types_become_grey_and_are_said(tmp_path, pixels, caplog):
    files._converted.clear()
    save(tmp_path / "a.tif", pixels)
    with caplog.at_level(logging.WARNING), Image.open(tmp_path / "a.tif") as image:
        grey = np.asarray(files.to_grey(image))
        files.to_grey(image)
    assert np.array_equal(grey, square())
    assert sum("converted to 8-bit grey" in record.message for record in caplog.records) == 1


@pytest.mark.parametrize("scale", [1, 255])
def test_masks_of_zero_and_one_or_255(tmp_path, scale):
    save(tmp_path / "m.png", square() // 255 * scale)
    label = LoadMaskd()({"label": str(tmp_path / "m.png")})["label"]
    assert np.array_equal(np.asarray(label)[0].T, square() / 255)
    save(tmp_path / "m.png", square() * 0)
    assert LoadMaskd()({"label": str(tmp_path / "m.png")})["label"].sum() == 0


def colours(mask):
    """The nodule red, on black, with the palette's entries in either order."""
    indices = (mask == 0).astype(np.uint8)
    picture = Image.fromarray(indices, mode="P")
    picture.putpalette([255, 0, 0, 0, 0, 0])
    return picture


def opacity(mask):
    picture = Image.new("RGBA", mask.shape[::-1], "white")
    picture.putalpha(Image.fromarray(mask))
    return picture


@pytest.mark.parametrize("stored", [colours, opacity])
def test_a_mask_of_colours_or_of_opacity_is_its_nodule(tmp_path, stored):
    mask = square()
    stored(mask).save(tmp_path / "mask.png")
    assert (read_mask(str(tmp_path / "mask.png")) == (mask > 0)).all()


def test_an_opaque_mask_of_one_colour_is_empty(tmp_path):
    for name, colour in (("black.png", "black"), ("white.png", (0, 0, 0, 255))):
        Image.new("RGBA", (8, 8), colour).save(tmp_path / name)
        assert not read_mask(str(tmp_path / name)).any()


@pytest.mark.parametrize(
    ("palette", "classes"),
    [
        ([0, 0, 0, 255, 0, 0, 0, 255, 0], [0, 1, 2]),
        ([255, 255, 255, 255, 0, 0, 0, 0, 0], [0, 1, 2]),  # on white, a class drawn black
        ([255, 0, 0, 0, 0, 0, 0, 255, 0], [1, 0, 3]),
        ([0, 0, 0, 255, 0, 0, 0, 0, 0], [0, 2, 0]),
    ],
)
def test_the_background_of_a_palette_is_what_is_black_or_number_0(palette, classes):
    picture = Image.fromarray(np.array([[0, 1, 2]], np.uint8), mode="P")
    picture.putpalette(palette)
    assert np.asarray(files.to_grey(picture)).tolist() == [classes]


def test_polygons_are_filled():
    mask = draw_polygons([[[2, 1], [5, 1], [5, 3], [2, 3]]], (8, 6))
    assert mask.shape == (6, 8) and mask[1:4, 2:6].all() and mask.sum() == 12


def test_list_images(tmp_path):
    for name in ("10", "9", "b"):
        save(tmp_path / f"{name}.png", square())
    assert [path.rsplit("/", 1)[1] for path in list_images(str(tmp_path))] == ["b.png", "9.png", "10.png"]
    assert len(list_images(str(tmp_path / "b.png"))) == 1
    with pytest.raises(FileNotFoundError, match="image: no file or folder"):
        list_images(str(tmp_path / "none.png"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="image: no image file in"):
        list_images(str(tmp_path / "empty"))


def test_mirror_swaps_sides_in_image_and_report():
    image = MetaTensor(torch.arange(12.0).reshape(1, 4, 3))
    data = {"image": image, "label": image, "report": "Left lobe, right nodule; bright. 左侧"}
    mirrored = RandMirrorReportd(["image", "label"], prob=1.0)(data)
    assert torch.equal(mirrored["image"].as_tensor(), image.as_tensor().flip(1))
    assert mirrored["report"] == "Right lobe, left nodule; bright. 右侧"
    phrase = {"image": data["image"], "phrase": "nodule in the left part"}
    alone = RandMirrorReportd(["image"], prob=1.0, texts=("phrase", "prompt"))(phrase)
    assert alone["phrase"] == "nodule in the right part" and "prompt" not in alone
    assert RandMirrorReportd(["image"], prob=0.0)(data)["report"] == data["report"]


def test_names_that_windows_wrote_are_understood_and_stay_inside(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").touch()
    assert inside(tmp_path, "images\\a.png") == str(tmp_path / "images" / "a.png")
    for name in ("..\\secret.png", "images\\..\\..\\secret.png"):
        with pytest.raises(ValueError, match="leaves the data set's folder"):
            inside(tmp_path, name)
    (tmp_path / "odd\\name.png").touch()
    assert inside(tmp_path, "odd\\name.png") == str(tmp_path / "odd\\name.png")
