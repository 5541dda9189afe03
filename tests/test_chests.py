"""Images with boxes on their way into the detector: what is learned from, views, boxes that follow their image."""

import json

import numpy as np
import pytest
import torch
from d2rnet.detector.data import (
    LoadSquared,
    PairedDataset,
    RandFlipZoomd,
    RandStrongd,
    training_cases,
    training_transforms,
    whole_transforms,
)
from d2rnet.detector.network import Detections
from d2rnet.detector.steps import split_detections
from PIL import Image

from common.datasets.boxes import LABELS
from common.synthetic.chest import ChestOptions, write_chests


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("chest") / "set"
    write_chests(str(folder), ChestOptions(studies=40, size=64, seed=1))
    return folder


def names(cases):
    return {case["image"] for case in cases}


def test_a_share_of_labels_leaves_the_other_images_unlabelled(root):
    whole = training_cases(str(root), classes=LABELS)
    some = training_cases(str(root), classes=LABELS, share=0.25)
    assert not whole["unlabelled"] and len(some["labelled"]) == round(0.25 * len(whole["labelled"]))
    assert names(some["labelled"]) | names(some["unlabelled"]) == names(whole["labelled"])
    assert all(set(case) == {"image"} for case in some["unlabelled"])
    with pytest.raises(ValueError, match=r"labelled_share: 0\.001 of .* images is none"):
        training_cases(str(root), classes=LABELS, share=0.001)


def test_no_validation_or_test_image_is_learned_from(root, tmp_path, caplog):
    val, test = (json.loads((root / f"coco_{s}.json").read_text())["images"][0]["file_name"] for s in ("val", "test"))
    train = json.loads((root / "coco_train.json").read_text())["images"][0]["file_name"]
    for index, name in enumerate((val, test, train)):
        (tmp_path / f"copy{index}.png").write_bytes((root / "images" / name).read_bytes())
    found = training_cases(str(root), classes=LABELS, unlabelled_dir=str(tmp_path))
    assert names(found["unlabelled"]) == {str(tmp_path / "copy2.png")}
    assert "2 of 3 images are validation or test images, too, and are left out" in caplog.text


def test_studies_give_the_images_of_their_training_split(root, tmp_path):
    other = tmp_path / "other"
    write_chests(str(other), ChestOptions(studies=20, size=64, seed=7))
    found = training_cases(str(root), classes=LABELS, unlabelled_dir=str(other))
    training = {entry["image_path"][0] for entry in json.loads((other / "annotation.json").read_text())["train"]}
    assert {path.rsplit("/", 1)[1] for path in names(found["unlabelled"])} == training
    with pytest.raises(FileNotFoundError, match="unlabelled_dir: no folder 'nowhere'"):
        training_cases(str(root), classes=LABELS, unlabelled_dir="nowhere")


def test_a_wide_image_keeps_its_shape_and_its_boxes(tmp_path):
    pixels = np.zeros((40, 80), dtype=np.uint8)
    pixels[10:20, 60:80] = 200
    Image.fromarray(pixels).save(tmp_path / "wide.png")
    case = {"image": str(tmp_path / "wide.png"), "boxes": np.array([[60, 10, 80, 20]]), "labels": np.array([3])}
    found = LoadSquared(size=160)(case)
    assert found["factor"] == 2 and found["boxes"].tolist() == [[120, 20, 160, 40]]
    rows, columns = np.nonzero(found["pixels"] > 100)
    assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (120, 20, 160, 40)


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_boxes_follow_the_weak_view(flip):
    pixels = np.zeros((64, 64), dtype=np.uint8)
    pixels[8:24, 32:56] = 255
    placed = RandFlipZoomd(flip=flip, zoom=0.5).set_random_state(seed=2)
    found = placed({"pixels": pixels, "boxes": torch.tensor([[32.0, 8, 56, 24]])})
    rows, columns = np.nonzero(found["pixels"] > 127)
    drawn = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    assert found["boxes"][0].tolist() == pytest.approx(drawn, abs=1.0)


def test_strong_views_are_the_same_cut_and_differ_from_weak_ones():
    strengthen = RandStrongd().set_random_state(seed=0)
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint8)
    pairs = [strengthen({"pixels": pixels, "factor": 1.0, "image": ""}) for _ in range(20)]
    assert all(pair["weak"].shape == pair["strong"].shape == (3, 64, 64) for pair in pairs)
    assert all(torch.equal(pair["weak"], pairs[0]["weak"]) for pair in pairs)
    alike = [float(torch.corrcoef(torch.stack([p["weak"][0].ravel(), p["strong"][0].ravel()]))[0, 1]) for p in pairs]
    assert min(alike) < 0.9 and np.mean(alike) > 0.3


def test_an_image_without_boxes_passes(root):
    image = training_cases(str(root), classes=LABELS)["labelled"][0]["image"]
    empty = {"image": image, "boxes": np.zeros((0, 4), np.float32), "labels": np.zeros(0, np.int64)}
    found = training_transforms(size=64, flip=1.0, zoom=0.5)(empty)
    assert found["boxes"].shape == (0, 4) and found["labels"].shape == (0,)
    assert whole_transforms(size=64)({"image": image})["image_tensor"].shape == (3, 64, 64)


def test_pairs_begin_anew_when_a_list_ends():
    pairs = PairedDataset([{"a": 0}, {"a": 1}], [{"b": 0}, {"b": 1}, {"b": 2}], 5)
    assert [pairs[i]["labelled"]["a"] for i in range(5)] == [0, 1, 0, 1, 0]
    assert [pairs[i]["unlabelled"]["b"] for i in range(5)] == [0, 1, 2, 0, 1]
    assert "unlabelled" not in PairedDataset([{"a": 0}], [], 5)[3] and len(pairs) == 5


def test_a_missing_validation_image_does_not_switch_the_check_off(root, tmp_path):
    (tmp_path / "images").symlink_to(root / "images")
    for split in ("train", "val", "test"):
        content = json.loads((root / f"coco_{split}.json").read_text())
        if split == "val":
            content["images"].append({**content["images"][0], "id": 999, "file_name": "gone.png"})
        (tmp_path / f"coco_{split}.json").write_text(json.dumps(content))
    with pytest.raises(FileNotFoundError, match=r"gone\.png"):
        training_cases(str(tmp_path), classes=LABELS)


def test_detected_boxes_stay_inside_a_wide_image(tmp_path):
    Image.fromarray(np.full((40, 80), 90, np.uint8)).save(tmp_path / "wide.png")
    case = whole_transforms(size=64)({"image": str(tmp_path / "wide.png")})
    boxes = torch.tensor([[[10.0, 10, 30, 60], [10, 40, 30, 60], [0, 0, 0, 0]]])
    found = Detections(boxes, torch.tensor([[0.9, 0.8, 0.0]]), torch.zeros(1, 3, dtype=torch.long), boxes)
    ((own, labels, scores),) = split_detections(found, [case])
    assert own.tolist() == [[12.5, 12.5, 37.5, 40]] and len(labels) == len(scores) == 1
