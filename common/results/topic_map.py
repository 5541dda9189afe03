"""A map of reports by topic: a dot each, a hull around each topic, words where the pointer or the Tab key is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.spatial import ConvexHull, QhullError

from common.results.blocks import Block
from common.results.drawing import colour

WIDTH, HEIGHT, MARGIN = 960, 520, 28
APART, LIFT = 8, 14  # pixels: how far equal reports are moved, how far above the middle a topic's number stands
DOTS = 1500  # at most; more are drawn of at random
LETTERS = 140  # of a report in its tooltip
INNER = 0.9  # share of a topic's dots, those nearest to its median, that its hull goes around


def topic_map(
    points: np.ndarray, labels: np.ndarray, reports: Sequence[str], words: Mapping[int, Sequence[str]], *, caption: str
) -> Block:
    """The map as a block of a page.

    Args:
        points: (N, 2).
        labels: (N,) topic of each; -1: none.
        reports: of each point.
        words: of each topic, the most telling first.
    """
    low, span = points.min(0), np.maximum(np.ptp(points, axis=0), 1e-12)
    placed = (points - low) / span * (np.array([WIDTH, HEIGHT]) - 2 * MARGIN) + MARGIN
    placed[:, 1] = HEIGHT - placed[:, 1]
    placed += _apart(len(points))
    shown = np.arange(len(points))
    if len(points) > DOTS:
        shown = np.random.default_rng(0).choice(len(points), DOTS, replace=False)
    topics = [
        _topic(int(label), placed, labels == label, [int(i) for i in shown if labels[i] == label], reports, words)
        for label in np.unique(labels)
    ]
    return {"kind": "map", "width": WIDTH, "height": HEIGHT, "topics": topics, "caption": caption}


def _topic(
    label: int,
    points: np.ndarray,
    members: np.ndarray,
    shown: Sequence[int],
    reports: Sequence[str],
    words: Mapping[int, Sequence[str]],
) -> dict:
    own = points[members]
    middle = np.median(own, axis=0)
    x, y = own[np.square(own - middle).sum(1).argmin()]
    known = ", ".join(words.get(label, ()))
    name = f"{label}: {known} ({len(own)} reports)" if label >= 0 else f"in no topic ({len(own)} reports)"
    dots = [{"x": f"{points[i, 0]:.1f}", "y": f"{points[i, 1]:.1f}", "title": _shortened(reports[i])} for i in shown]
    return {
        "label": label, "name": name, "colour": f"rgb{colour(label)}", "x": f"{x:.1f}", "y": f"{y - LIFT:.1f}",
        "dots": dots, "hull": hull_of(own, middle) if label >= 0 else "",
    }  # fmt: skip


def _apart(count: int) -> np.ndarray:
    """Ways (count, 2) of at most :data:`APART`, always the same, that let equal reports lie beside each other."""
    rng = np.random.default_rng(0)
    angle, way = rng.uniform(0, 2 * np.pi, count), APART * np.sqrt(rng.uniform(0, 1, count))
    return np.stack([way * np.cos(angle), way * np.sin(angle)], axis=1)


def hull_of(points: np.ndarray, middle: np.ndarray) -> str:
    """The convex hull of the ``points`` (N, 2) nearest to ``middle`` as the ``d`` of a path of SVG; "" of a line."""
    order = np.argsort(np.square(points - middle).sum(1), kind="stable")
    inner = points[order[: max(3, round(INNER * len(points)))]]
    try:
        corners = inner[ConvexHull(inner).vertices]
    except (QhullError, ValueError):  # fewer than three points, or all on a line
        return ""
    return "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in corners) + "Z"


def _shortened(report: str) -> str:
    return report if len(report) <= LETTERS else report[: LETTERS - 1] + "…"
