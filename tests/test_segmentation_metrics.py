import json
from pathlib import Path

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from monai.metrics import compute_dice, compute_iou
from scipy.ndimage import gaussian_filter
from scipy.spatial.distance import cdist

from common.metrics.segmentation import count_nodules, hausdorff95, mask_metrics, surface_dice


def square(row):
    mask = torch.zeros(1, 1, 32, 24)
    mask[..., row : row + 6, 5:12] = 1
    return mask


def test_equal_masks_and_a_shift():
    assert hausdorff95(square(4), square(4)).item() == 0
    assert hausdorff95(square(4), square(7)).item() == pytest.approx(3)


def test_it_is_the_percentile_of_surface_distances():
    one, other = square(4), square(6) * 0
    other[..., 10, 20] = 1
    edge = np.argwhere((one[0, 0] > 0).numpy())
    inner = edge[(edge[:, 0] > 4) & (edge[:, 0] < 9) & (edge[:, 1] > 5) & (edge[:, 1] < 11)]
    border = np.array([p for p in edge.tolist() if p not in inner.tolist()])
    distances = cdist(border, [[10, 20]])
    expected = max(np.percentile(distances, 95), distances.min())
    assert hausdorff95(one, other).item() == pytest.approx(expected, abs=1e-4)


def test_an_empty_mask_costs_the_diagonal_and_two_agree():
    empty = torch.zeros(1, 1, 32, 24)
    assert hausdorff95(empty, square(4)).item() == hausdorff95(square(4), empty).item() == pytest.approx(40)
    assert hausdorff95(empty, empty).item() == 0


def test_surface_dice_counts_what_is_within_its_tolerance_and_empty_masks():
    assert surface_dice(square(4), square(4), 1).item() == 1 == surface_dice(square(4), square(6), 2).item()
    assert surface_dice(square(4), square(5), 1).item() == 1 > surface_dice(square(4), square(6), 1).item()
    assert 0 < surface_dice(square(4), square(9), 2).item() < 0.6
    empty = torch.zeros(1, 1, 32, 24)
    assert surface_dice(empty, empty, 2).item() == 1
    assert surface_dice(empty, square(4), 2).item() == surface_dice(square(4), empty, 2).item() == 0


def test_nodules_are_counted_one_by_one():
    truth, prediction = np.zeros((40, 40), bool), np.zeros((40, 40), bool)
    truth[2:12, 2:12] = truth[20:30, 20:30] = True
    prediction[2:12, 3:13] = True  # IoU 0.82
    prediction[20:30, 26:36] = True  # IoU 0.25
    prediction[35:38, 2:5] = True
    assert count_nodules(prediction, truth) == (1, 2, 2)
    assert count_nodules(truth, truth) == (2, 2, 0) and count_nodules(~truth & False, truth) == (0, 2, 0)


def pieces(seed):
    """Prediction and truth (64, 64) of some pieces each, alike by chance: cut from smoothed noise."""
    generator = np.random.default_rng(seed)
    noise, other = (gaussian_filter(generator.normal(size=(64, 64)), 4) for _ in range(2))
    truth = noise > np.quantile(noise, generator.uniform(0.85, 0.97))
    share = generator.uniform(0, 0.8)
    mixed = (1 - share) * noise + share * other
    return mixed > np.quantile(mixed, generator.uniform(0.85, 0.97)), truth


def test_a_hundred_random_masks_are_scored_as_panoptica_scores_them():
    """Its 2.1.7, given the pieces that touch at corners, too, as one, and IoU above a half."""
    rows = json.loads((Path(__file__).parent / "golden" / "panoptica.json").read_text())
    assert len(rows) == 100 and sum(row[0] for row in rows) > 150
    for seed, (hits, nodules, false_positives, dice, iou) in enumerate(rows):
        prediction, truth = pieces(seed)
        assert count_nodules(prediction, truth) == (hits, nodules, false_positives), seed
        given = [torch.from_numpy(mask)[None, None].float() for mask in (prediction, truth)]
        assert compute_dice(*given).item() == pytest.approx(dice, abs=1e-5)
        assert compute_iou(*given).item() == pytest.approx(iou, abs=1e-5)


def test_the_evaluations_metrics_are_those_of_all_images():
    metrics, engine = mask_metrics(), Engine(lambda engine, batch: None)
    for name, metric in metrics.items():
        metric.attach(engine, name)
    pairs = [(square(4), square(4)), (square(4), square(20))]
    for prediction, truth in pairs:
        for name in ("nsd", "nsd_1px", "nodule_sensitivity", "false_positives"):
            metrics[name].update(([prediction[0]], [truth[0]]))
    for name, tolerance in (("nsd", 2), ("nsd_1px", 1)):
        expected = np.mean([surface_dice(*pair, tolerance).item() for pair in pairs])
        assert metrics[name].compute() == pytest.approx(expected)
    assert metrics["nodule_sensitivity"].compute() == 0.5 == metrics["false_positives"].compute()
