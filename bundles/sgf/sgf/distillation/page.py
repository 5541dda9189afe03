"""What the distiller shows of its topics: pictures and one page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.decomposition import PCA

from common.cli.atomic import write_picture, write_text
from common.results import blocks
from common.results.drawing import heat_map
from common.results.topic_map import topic_map
from common.text.distiller import Distiller, topics


def _heat_map(scores: np.ndarray, sizes: Sequence[int], dims: Sequence[int], size_name: str) -> Image.Image:
    rows, columns = list(map(str, sizes)), list(map(str, dims))
    return heat_map(scores, rows=rows, columns=columns, row_title=size_name, column_title="dimension")


def describe(distiller: Distiller, reports: Sequence[str], analyzer: Any) -> list[dict]:
    """Each cluster: ``label, reports`` (how many), ``words``, ``example``, the report nearest to the cluster's mean."""
    words = topics(reports, distiller.labels, analyzer=analyzer)
    results = []
    for label in np.unique(distiller.labels):
        positions = np.flatnonzero(distiller.labels == label)
        points = np.asarray(distiller.reduced[positions])
        nearest = positions[np.square(points - points.mean(0)).sum(1).argmin()]
        results.append(
            {"label": int(label), "reports": len(positions), "words": words[int(label)], "example": reports[nearest]}
        )
    return results


def in_plane(points: np.ndarray) -> np.ndarray:
    """(N, D) to (N, 2): as they are, or their two principal components."""
    return points if points.shape[1] == 2 else PCA(2, random_state=0).fit_transform(points)


def map_of(distiller: Distiller, reports: Sequence[str], clusters: Sequence[dict]) -> blocks.Block:
    """The reports that the ``distiller`` was fitted on as a map, with the words of the ``clusters``."""
    words = {cluster["label"]: cluster["words"] for cluster in clusters}
    place = "two numbers" if distiller.reduced.shape[1] == 2 else "two principal components"
    caption = (
        f"Training reports: a dot each, its place the reduced vector's {place} (moved a little, so that equal reports "
        "are seen), its colour the topic; a line goes around the inner 90 % of a topic. Point at a topic or a dot to "
        "read it."
    )
    return topic_map(in_plane(distiller.reduced), distiller.labels, reports, words, caption=caption)


def write_page(
    folder: Path, name: str, metrics: dict, clusters: list[dict], heat: Image.Image, reports: blocks.Block
) -> None:
    """``silhouette.png`` and ``index.html``, with the map ``reports``."""
    write_picture(folder / "silhouette.png", heat)
    rows = [
        (c["label"] if c["label"] >= 0 else "noise", c["reports"], ", ".join(c["words"]), c["example"])
        for c in clusters
    ]
    sections = [
        blocks.Section("Figures", [blocks.table(list(metrics.items()))]),
        blocks.Section("Reports", [reports]),
        blocks.Section(
            "Topics of the training reports", [blocks.table(rows, header=("label", "reports", "words", "an example"))]
        ),
        blocks.Section("Silhouette", [blocks.figure(heat, "the framed one was chosen")]),
    ]
    write_text(folder / "index.html", blocks.render(f"Topics of {name}", sections))
