"""Charts: the best cell is framed, empty cells stay empty, labels stand on their points."""

import numpy as np
from scipy.spatial import Delaunay

from common.results.blocks import Section, render
from common.results.drawing import NOISE_COLOUR, PAPER, colour, heat_map
from common.results.topic_map import DOTS, hull_of, topic_map

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


def test_a_map_has_a_dot_for_each_report_and_a_hull_for_each_topic():
    points = np.concatenate([np.random.default_rng(0).random((30, 2)) + np.array([3 * label, 0]) for label in range(3)])
    labels = np.repeat([0, 1, -1], 30)
    reports = [f"<b>report {number}</b>" for number in range(90)]
    block = topic_map(points, labels, reports, {0: ["round", "solid"], 1: ["cystic"]}, caption="A map.")
    assert [(topic["label"], len(topic["dots"]), bool(topic["hull"])) for topic in block["topics"]] == [
        (-1, 30, False), (0, 30, True), (1, 30, True),
    ]  # fmt: skip
    page = render("Topics", [Section("Reports", [block])])
    assert page.count("<circle") == 90 and page.count("&lt;b&gt;report") == 90 and "<b>report" not in page
    assert "0: round, solid (30 reports)" in page and "in no topic (30 reports)" in page
    assert {colour(0), colour(1), colour(-1)} == {topic_colour(topic) for topic in block["topics"]}
    assert len({colour(label) for label in range(20)}) == 20 and colour(-1) == NOISE_COLOUR


def topic_colour(topic):
    return tuple(map(int, topic["colour"].removeprefix("rgb(").removesuffix(")").split(",")))


def test_a_large_map_stays_small_and_few_points_have_no_hull():
    points = np.random.default_rng(0).random((5000, 2))
    block = topic_map(points, np.zeros(5000, int), ["x" * 1000] * 5000, {0: ["x"]}, caption="A map.")
    (topic,) = block["topics"]
    assert len(topic["dots"]) == DOTS and "(5000 reports)" in topic["name"]
    assert len(render("Topics", [Section("Reports", [block])])) < 500_000
    assert hull_of(points[:2], points[0]) == "" and hull_of(np.array([[0.0, 0], [1, 1], [2, 2]]), points[0]) == ""


def test_a_hull_goes_around_the_inner_dots():
    points = np.random.default_rng(0).normal(size=(200, 2))
    corners = np.array([list(map(float, pair.split())) for pair in hull_of(points, np.zeros(2))[1:-1].split("L")])
    inside = Delaunay(corners).find_simplex(0.999 * points) >= 0
    assert 0.85 <= inside.mean() <= 0.95
