import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist

from common.metrics.segmentation import hausdorff95


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
