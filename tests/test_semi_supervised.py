"""Unbiased Teacher v2: burning in, the teacher's start and pace, which sides are learned."""

import pytest
import torch
from d2rnet.detector.assignment import assign
from d2rnet.detector.network import Dense, LesionDetector
from d2rnet.detector.teacher import PseudoBoxes, TeacherAndStudent

WEIGHTS = {"std": 0.05, "classes": 2.0, "boxes": 3.0}


@pytest.fixture
def pair():
    torch.manual_seed(0)
    student = LesionDetector(classes=2, depth=18, resnet_width=8, levels=(0, 1), width=16, layers=1)
    return TeacherAndStudent(student, burn_in=2, ema_decay=0.9, threshold=0.3, weights=WEIGHTS)


@pytest.fixture
def batch():
    return {
        "weak": torch.rand(2, 3, 64, 64), "strong": torch.rand(2, 3, 64, 64),
        "boxes": [torch.tensor([[8.0, 8, 28, 28]]), torch.zeros(0, 4)],
        "labels": [torch.tensor([1]), torch.zeros(0, dtype=torch.long)],
        "unlabelled_weak": torch.rand(2, 3, 64, 64), "unlabelled_strong": torch.rand(2, 3, 64, 64),
    }  # fmt: skip


def test_unlabelled_images_count_after_burning_in(pair, batch):
    assert set(pair(batch, 1)) == {"class", "box", "centerness"}
    assert set(pair(batch, 2)) == {"class", "box", "centerness", "unlabelled classes", "unlabelled boxes"}


def test_the_teacher_starts_as_a_copy_and_follows(pair):
    def weights():
        return pair.teacher.module.head.logits.bias.clone()

    first = weights()
    with torch.no_grad():
        pair.student.head.logits.bias += 1.0
    pair.student.train()(torch.rand(2, 3, 64, 64))  # moves batch statistics
    pair.update(0)
    torch.testing.assert_close(weights(), first + 1.0)
    pair.update(1)
    torch.testing.assert_close(weights(), first + 1.0)
    statistics = pair.student.features.stem[1].running_mean
    torch.testing.assert_close(pair.teacher.module.features.stem[1].running_mean, statistics)
    with torch.no_grad():
        pair.student.head.logits.bias += 1.0
    pair.update(2)
    torch.testing.assert_close(weights(), first + 1.1)


def test_a_longer_training_does_not_burn_in_again(pair, batch):
    pair.update(1)
    longer = TeacherAndStudent(pair.student, burn_in=50, ema_decay=0.9, threshold=0.3, weights=WEIGHTS)
    assert longer.is_burning_in(2)
    longer.load_state_dict(pair.state_dict())
    assert not longer.is_burning_in(2) and "unlabelled classes" in longer(batch, 2)
    teacher = longer.teacher.module.head.logits.bias.clone()
    with torch.no_grad():
        longer.student.head.logits.bias += 1.0
    longer.update(2)
    torch.testing.assert_close(longer.teacher.module.head.logits.bias, teacher + 0.1)


def test_no_gradient_reaches_the_teacher(pair, batch):
    pair.update(1)
    sum(pair(batch, 5).values()).backward()
    assert all(p.grad is None for p in pair.teacher.parameters())
    assert any(p.grad is not None for p in pair.student.parameters())


@pytest.mark.parametrize(("teacher", "student", "learned"), [(0.1, 0.5, True), (0.1, 0.15, False), (0.6, 0.9, False)])
def test_sides_are_learned_where_the_teacher_is_surer(pair, teacher, student, learned):
    plain = pair.student.dense(torch.rand(1, 3, 64, 64))
    spread = torch.full_like(plain.std_logits, student).logit()
    dense = Dense(plain.logits, plain.distances, spread, plain.centerness, plain.positions, plain.strides)
    boxes = torch.tensor([[8.0, 8, 28, 28]])
    pseudo = PseudoBoxes([boxes], [torch.tensor([0])], [torch.full((1, 4), teacher)])
    terms = pair.unlabelled_terms(dense, pseudo)
    assert (float(terms["boxes"].detach()) > 0) == learned and float(terms["classes"].detach()) > 0
    if learned:
        assigned = assign(dense, [boxes])
        own = assigned.box >= 0
        wanted = (dense.distances[own] - assigned.distances[own]).abs().sum() / own.sum()
        torch.testing.assert_close(terms["boxes"], wanted)


def test_only_sure_boxes_are_taken(pair):
    with torch.no_grad():
        torch.nn.init.normal_(pair.student.head.logits.weight, std=0.5)
        pair.student.head.logits.bias.fill_(-4.0)
    pair.update(1)
    images = torch.rand(2, 3, 64, 64)
    taken = pair.pseudo_boxes(images)
    scores = pair.teacher.eval()(images).scores
    assert [len(boxes) for boxes in taken.boxes] == (scores > 0.3).sum(1).tolist()
    assert 0 < (scores > 0.3).sum() < (scores > 0).sum()
    with pytest.raises(ValueError, match="burn_in: 0"):
        TeacherAndStudent(pair.student, burn_in=0, weights=WEIGHTS)
