"""Metrics of detected boxes: equal to pycocotools on recorded cases; FROC by hand."""

import numpy as np
import pytest

from common.metrics.detection import detection_metrics, froc_curve
from tests import published_numbers


@pytest.mark.parametrize("seed", ["0", "1"])
def test_coco_metrics_equal_pycocotools(seed):
    case = published_numbers.load("coco")["cases"][seed]
    found = [(np.array(b).reshape(-1, 4), np.array(c, dtype=int), np.array(s)) for b, c, s in case["found"]]
    wanted = [(np.array(b).reshape(-1, 4), np.array(c, dtype=int)) for b, c in case["wanted"]]
    metrics = detection_metrics(found, wanted, ["a", "b", "c"])
    for name in ("map", "ap50", "ap75", "ar"):
        assert metrics[name] == pytest.approx(case[name], abs=1e-6)
    assert metrics["ap50"] == pytest.approx(np.mean([metrics[f"ap50_{name}"] for name in "abc"]), abs=1e-6)


def boxes(*corners):
    return np.array(corners, dtype=float).reshape(-1, 4)


def test_froc_counts_a_lesion_once_and_averages_over_false_positives():
    wanted = [(boxes((0, 0, 10, 10)), np.array([0])), (boxes((5, 5, 20, 20)), np.array([1]))]
    found = [
        (boxes((0, 0, 10, 10), (1, 1, 10, 10)), np.array([0, 0]), np.array([0.9, 0.8])),  # the second is false
        (boxes((5, 5, 20, 20), (5, 5, 20, 20)), np.array([0, 1]), np.array([0.7, 0.6])),  # wrong label first
    ]
    # in order of score: right, wrong, wrong, right: one lesion below 1 false positive an image, both from there on
    assert froc_curve(found, wanted) == pytest.approx([0.5] * 3 + [1.0] * 4)
    assert froc_curve([(boxes(), np.array([], int), np.array([]))] * 2, wanted) == [0.0] * 7
    metrics = detection_metrics(found, wanted, ["a", "b"])
    assert metrics["froc"] == pytest.approx((3 * 0.5 + 4 * 1.0) / 7)
    assert (metrics["sensitivity_at_0.5_fp"], metrics["sensitivity_at_1_fp"]) == (0.5, 1.0)


def test_a_box_that_overlaps_by_two_fifths_counts_for_ap40_alone():
    wanted = [(boxes((0, 0, 10, 10)), np.array([0]))]
    metrics = detection_metrics([(boxes((0, 0, 10, 4.5)), np.array([0]), np.array([0.9]))], wanted, ["a"])
    assert metrics["ap40"] == pytest.approx(1.0) and metrics["ap50"] == metrics["map"] == 0.0


def test_nothing_to_measure_is_said():
    none = [(boxes(), np.array([], int))]
    with pytest.raises(ValueError, match="no box in any image"):
        detection_metrics([(boxes(), np.array([], int), np.array([]))], none, ["a"])
    with pytest.raises(ValueError, match="boxes of 0 images for 1"):
        detection_metrics([], none, ["a"])
