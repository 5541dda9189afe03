"""Intervals of the area under the ROC curve, and what a decision is worth."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from common.metrics.classification import net_benefit
from common.metrics.intervals import area_interval, intervals_of


def pairs(label, prob):
    """Of each malignant and each benign image, whether the first has the higher probability; half of a tie."""
    first, second = prob[label == 1][:, None], prob[label == 0][None]
    return (first > second) + 0.5 * (first == second)


@pytest.mark.parametrize("decimals", [1, 6])
def test_one_image_a_patient_is_delongs(decimals):
    rng = np.random.default_rng(decimals)
    label = rng.integers(0, 2, 70)
    prob = np.round(rng.random(70) * 0.7 + 0.3 * label * rng.random(70), decimals)
    area, low, high = area_interval(label, prob, np.arange(70))
    better = pairs(label, prob)
    variance = better.mean(1).var(ddof=1) / len(better) + better.mean(0).var(ddof=1) / better.shape[1]
    assert area == pytest.approx(roc_auc_score(label, prob)) == pytest.approx(better.mean())
    assert (low, high) == pytest.approx((area - 1.959964 * variance**0.5, area + 1.959964 * variance**0.5))


def test_images_of_a_patient_count_as_less_than_as_many_patients():
    rng = np.random.default_rng(0)
    patient, label = np.repeat(np.arange(60), 3), np.repeat(rng.integers(0, 2, 60), 3)
    covered = {"patients": 0, "images": 0}
    for _ in range(200):
        prob = rng.normal(size=60)[patient] + label + 0.5 * rng.normal(size=180)
        for name, who in (("patients", patient), ("images", np.arange(180))):
            _, low, high = area_interval(label, prob, who)
            covered[name] += low <= 0.7365 <= high  # of the drawn distributions: Phi(1 / sqrt(2.5))
    assert covered["patients"] > 0.9 * 200 > covered["images"] + 10


def test_what_is_undefined_is_told_as_such():
    assert np.isnan(area_interval(np.ones(3), np.arange(3.0), np.arange(3))).all()
    area, low, high = area_interval(np.array([0, 0, 1]), np.array([0.1, 0.2, 0.3]), np.array([0, 1, 2]))
    assert area == 1.0 and np.isnan(low) and np.isnan(high)


def test_images_that_are_wholly_apart_tell_no_interval():
    area, low, high = area_interval(np.array([0, 0, 1, 1]), np.array([0.1, 0.2, 0.8, 0.9]), np.arange(4))
    assert area == 1.0 and np.isnan(low) and np.isnan(high)


def test_an_evaluations_areas_have_intervals_of_images_and_of_patients():
    cases = {str(n): {"malignancy": n % 2, "prob": (n % 7) / 7} for n in range(40)}
    patients = {name: str(int(name) % 20) for name in cases}
    label, prob = (np.array([case[key] for case in cases.values()]) for key in ("malignancy", "prob"))
    pooled = [(label[n], (prob[n] + prob[n + 20]) / 2) for n in range(20)]
    metrics = {"roc_auc": roc_auc_score(label, prob), "case_roc_auc": roc_auc_score(*zip(*pooled, strict=True))}
    told = intervals_of(metrics, cases, patients)
    assert told.keys() == metrics.keys()
    assert all(low < metrics[name] < high for name, (low, high) in told.items())
    assert "case_roc_auc" not in intervals_of({**metrics, "case_roc_auc": 0.123}, cases, patients)  # pooled otherwise


def test_net_benefit_by_hand():
    label, prob = np.array([1, 1, 0, 0, 0]), np.array([0.9, 0.4, 0.6, 0.2, 0.1])
    assert net_benefit(label, prob, np.array([0.25, 0.5])) == pytest.approx([2 / 5 - 1 / 5 / 3, 1 / 5 - 1 / 5])
    assert net_benefit(label, np.ones(5), np.array([0.4])) == pytest.approx([2 / 5 - 3 / 5 * 2 / 3])
