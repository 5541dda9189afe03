"""The lesion detector: assignment, losses equal to the published, suppression, TorchScript, and it learns."""

import copy

import numpy as np
import pytest
import torch
from d2rnet.detector.assignment import assign, centerness, distance_nll, losses
from d2rnet.detector.finder import TrainedDetector
from d2rnet.detector.network import Dense, LesionDetector, boxes_of, nms
from monai.data.box_utils import batched_nms, box_iou
from PIL import Image
from torch import nn

from tests import published_numbers


@pytest.fixture
def detector():
    torch.manual_seed(0)
    return LesionDetector(
        classes=3, depth=18, resnet_width=8, levels=(0, 1, 2), width=16, layers=1, detections_per_img=20
    )


def test_a_detector_whose_answer_is_no_number_is_not_one_that_sees_nothing(tmp_path):
    detector = LesionDetector(classes=2, depth=18, resnet_width=8, width=16, layers=1)
    settings = {"labels": ["Nodule/Mass", "Effusion"], "image_size": 64}
    Image.fromarray(np.zeros((64, 64), np.uint8)).save(tmp_path / "x.png")
    finders = []
    for name in ("sound", "damaged"):
        torch.save(detector.state_dict(), tmp_path / f"{name}.pt")
        given = {"weights": str(tmp_path / f"{name}.pt"), "settings": settings, "score": 0.3}
        finders.append(TrainedDetector(copy.deepcopy(detector), **given, device=torch.device("cpu")))
        next(detector.parameters()).data.fill_(float("nan"))
    assert len(finders[0]([str(tmp_path / "x.png")])) == 1
    with pytest.raises(ValueError, match=r"x\.png': the network's answer is no number \(NaN in "):
        finders[1]([str(tmp_path / "x.png")])


def test_side_likelihood_equals_the_published():
    case = published_numbers.load("losses")["cases"]["unbiased_teacher"]["box_negative_log_likelihood"]
    inputs = {name: published_numbers.noise(spec) for name, spec in case["inputs"].items()}
    found = distance_nll(inputs["mean"], inputs["std_logit"], inputs["target"], inputs["iou_weight"])
    assert float(found) == pytest.approx(case["sum"], rel=1e-5)


def test_a_place_answers_for_the_smallest_box_around_it(detector):
    dense = detector.dense(torch.zeros(2, 3, 64, 64))
    boxes = [torch.tensor([[4.0, 4, 28, 28], [10, 10, 20, 20]]), torch.zeros(0, 4)]
    assigned = assign(dense, boxes)
    assert set(assigned.box[0].tolist()) == {-1, 0, 1} and (assigned.box[1] == -1).all()
    for index in (0, 1):
        own = assigned.box[0] == index
        exact = Dense(
            dense.logits, assigned.distances, dense.std_logits, dense.centerness, dense.positions, dense.strides
        )  # sides as assigned give back the box
        torch.testing.assert_close(boxes_of(exact)[0][own], boxes[0][index].expand(int(own.sum()), -1))


def test_levels_share_the_sizes(detector):
    dense = detector.dense(torch.zeros(1, 3, 256, 256))
    for size, stride in ((20.0, 4.0), (70.0, 8.0), (180.0, 16.0)):
        box = torch.tensor([[128 - size / 2, 128 - size / 2, 128 + size / 2, 128 + size / 2]])
        owners = dense.strides[assign(dense, [box]).box[0] >= 0]
        assert len(owners) and (owners == stride).all()


def test_centredness_falls_from_the_middle_to_the_border():
    sides = torch.tensor([[2.0, 3, 2, 3], [1, 3, 3, 3], [0, 3, 4, 3]])
    assert centerness(sides).tolist() == pytest.approx([1.0, (1 / 3) ** 0.5, 0.0])


def test_suppression_equals_monais():
    torch.manual_seed(1)
    low = torch.rand(200, 2) * 60
    boxes, labels = torch.cat([low, low + 5 + torch.rand(200, 2) * 30], 1), torch.randint(0, 3, (200,))
    scores = torch.linspace(1, 0, 200)
    wanted = batched_nms(boxes, scores, labels, 0.5)
    assert nms(boxes, labels, iou_thresh=0.5, limit=200).tolist() == wanted.tolist()


def test_an_image_without_boxes_teaches_the_classes_alone(detector):
    dense = detector.dense(torch.rand(1, 3, 64, 64))
    terms = losses(dense, [torch.zeros(0, 4)], [torch.zeros(0, dtype=torch.long)], std_weight=0.05)
    assert (
        float(terms["class"].detach()) > 0 and float(terms["box"].detach()) == float(terms["centerness"].detach()) == 0
    )
    sum(terms.values()).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in detector.parameters())


def squares(count, seed):
    """Images with a bright (class 0) or dark (class 1) square, and their boxes."""
    rng = torch.Generator().manual_seed(seed)
    images, boxes, labels = 0.1 * torch.randn(count, 3, 64, 64, generator=rng), [], []
    for image in images:
        x, y, size = (int(torch.randint(low, high, (1,), generator=rng)) for low, high in ((2, 38), (2, 38), (8, 24)))
        label = int(torch.randint(2, (1,), generator=rng))
        image[:, y : y + size, x : x + size] += 2.0 if label == 0 else -2.0
        boxes.append(torch.tensor([[x, y, x + size, y + size]], dtype=torch.float32))
        labels.append(torch.tensor([label]))
    return images, boxes, labels


def test_it_learns_to_find_squares(detector):
    images, boxes, labels = squares(32, 0)
    optimizer = torch.optim.Adam(detector.parameters(), lr=3e-3)
    for step in range(90):
        part = slice(8 * (step % 4), 8 * (step % 4) + 8)
        terms = losses(detector.train().dense(images[part]), boxes[part], labels[part], std_weight=0.05)
        optimizer.zero_grad()
        sum(terms.values()).backward()
        optimizer.step()
    images, boxes, labels = squares(16, 1)
    with torch.no_grad():
        found = detector.eval()(images)
    overlap = torch.cat([box_iou(found.boxes[i, :1], boxes[i]) for i in range(16)])[:, 0]
    assert int(((overlap > 0.5) & (found.labels[:, 0] == torch.cat(labels))).sum()) >= 13


def test_scripted_detector_finds_the_same(detector):
    nn.init.normal_(detector.head.logits.weight)  # no two scores alike
    nn.init.normal_(detector.head.boxes.weight, std=0.3)
    image = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        for found, wanted in zip(torch.jit.script(detector.eval())(image), detector(image), strict=True):
            torch.testing.assert_close(found, wanted)
        boxes = detector(image).boxes
    assert (boxes >= 0).all() and (boxes[..., 0::2] <= 96).all() and (boxes[..., 1::2] <= 64).all()
