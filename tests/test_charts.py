"""Charts: the best cell is framed, empty cells stay empty, labels stand on their points."""

import numpy as np

from common.results.drawing import NOISE_COLOUR, PAPER, colour, heat_map, scatter

FRAME = (230, 120, 0)


def colours(picture):
    return set(map(tuple, np.asarray(picture).reshape(-1, 3).tolist()))


def test_the_highest_cell_is_framed_and_nan_is_empty():
    values = np.array([[0.2, np.nan], [0.4, 0.3]])
    titles = {"rows": ["5", "7"], "columns": ["2", "10"], "row_title": "K", "column_title": "dimension"}
    picture = np.asarray(heat_map(values, **titles))
    rows, columns = np.nonzero((picture == FRAME).all(2))
    assert rows.min() >= 52 + 32 and columns.max() < 84 + 56  # second row, first column
    assert (picture[60:80, 84 + 60 : 84 + 100] == PAPER).all()
    single = heat_map(np.array([[0.5]]), rows=["5"], columns=["2"], row_title="K", column_title="dimension")
    assert FRAME in colours(single)


def test_each_label_has_its_colour_and_noise_is_grey():
    points = np.concatenate([np.random.default_rng(0).random((30, 2)) + np.array([3 * label, 0]) for label in range(3)])
    labels = np.repeat([0, 1, -1], 30)
    found = colours(scatter(points, labels))
    assert {colour(0), colour(1), NOISE_COLOUR} <= found and colour(2) not in found
    assert len({colour(label) for label in range(20)}) == 20
