"""Labels out of reports: embed them, reduce the embedding, cluster it (SGF's knowledge distiller).

Fitted on the training reports alone. The parts are scikit-learn's, or UMAP, which has the same methods: a config hands
them in by their dotted paths. Later reports take the label that most of their nearest training reports have, in the
space of the vectoriser. So nothing of a reducer or a clusterer must be kept, HDBSCAN and UMAP need no approximation of
their own, and the saved model is JSON and npz without pickle.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.metrics import silhouette_score
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import normalize

from common.cli.atomic import whole_file, write_json
from common.cli.given import import_package

logger = logging.getLogger(__name__)
COMMON = 0.5  # share of the reports above which a word tells no topic
SAMPLE = 5000  # reports that a silhouette compares
MOST = 20_000  # reports that are clustered; of more a sample, and the others take the labels of their nearest
FILES = ("distiller.json", "distiller.npz")  # what is saved
NOISE = -1  # the label of reports that belong to no cluster (HDBSCAN)


class Distiller:
    """Cluster reports and label others alike.

    Args:
        vectorizer: texts to vectors: ``CountVectorizer``, ``TfidfVectorizer``, or what has their methods.
        reducer: vectors to few dimensions: ``umap.UMAP``, ``TruncatedSVD``; None leaves them.
        clusterer: ``KMeans``, ``HDBSCAN``; ``fit_predict`` gives labels.
        neighbors: training reports that vote for the label of another one.
    """

    def __init__(self, *, vectorizer: Any, reducer: Any, clusterer: Any, neighbors: int = 5) -> None:
        self.vectorizer, self.reducer, self.clusterer, self.neighbors = vectorizer, reducer, clusterer, neighbors
        self.vectors: Any = None
        self.reduced = np.empty((0, 0))
        self.labels = np.empty(0, dtype=np.int64)

    def fit(self, reports: Sequence[str]) -> np.ndarray:
        """Cluster the training reports: int64 (N,), 0 .. K - 1, the largest cluster first; :data:`NOISE` for none.

        Of more than :data:`MOST` a sample is clustered, and the others are labelled as :meth:`assign` does.

        Raises:
            ValueError: no report, or an empty one.
        """
        _check(reports)
        chosen = sampled(reports)
        vectors = normalize(self.vectorizer.fit_transform(chosen))
        labels = self.fit_reduced(vectors, vectors if self.reducer is None else self.reducer.fit_transform(vectors))
        return labels if len(chosen) == len(reports) else self.assign(reports)

    def fit_reduced(self, vectors: Any, reduced: np.ndarray) -> np.ndarray:
        """As :meth:`fit`, from the vectors (N, D) of the reports and from what the reducer makes of them."""
        self.vectors, self.reduced = vectors, reduced
        self.labels = by_size(self.clusterer.fit_predict(reduced))
        return self.labels

    def assign(self, reports: Sequence[str]) -> np.ndarray:
        """Labels (N,) of other reports, by a vote of their nearest training reports (cosine), the nearer the more.

        A report without a known word is :data:`NOISE`.

        Raises:
            RuntimeError: nothing was fitted.
            ValueError: no report, or an empty one.
        """
        _check(reports)
        if self.vectors is None:
            raise RuntimeError("distiller: call fit or load before assign")
        texts, position = np.unique(np.array(reports, dtype=object), return_inverse=True)
        return self._assign(texts.tolist())[position]

    def _assign(self, reports: Sequence[str]) -> np.ndarray:
        count = min(self.neighbors, len(self.labels))
        search = NearestNeighbors(n_neighbors=count, metric="cosine").fit(self.vectors)
        vectors = normalize(self.vectorizer.transform(reports))
        distances, positions = search.kneighbors(vectors)
        choices = np.unique(self.labels)
        similar = (1 - distances + 1e-9)[:, :, None] * (self.labels[positions][:, :, None] == choices)
        known = np.asarray(abs(vectors).sum(1)).ravel() > 0
        return np.where(known, choices[similar.sum(1).argmax(1)], NOISE)

    def silhouette(self) -> float:
        """Silhouette of the reduced training reports without noise, -1 to 1; nan with fewer than two clusters.

        Of more than :data:`SAMPLE` reports a sample is taken: its time grows with the square of their number.
        """
        known = self.labels != NOISE
        if len(np.unique(self.labels[known])) < 2:
            return float("nan")
        size = SAMPLE if known.sum() > SAMPLE else None
        return float(silhouette_score(self.reduced[known], self.labels[known], sample_size=size, random_state=0))


def choose(
    reports: Sequence[str], *, vectorizer: Any, reducers: Sequence[Any], clusterers: Sequence[Any], neighbors: int = 5
) -> tuple[Distiller, np.ndarray]:
    """The distiller with the highest silhouette of a grid, and all silhouettes (clusterers, reducers).

    Its labels are those of the :func:`sampled` reports.

    Raises:
        ValueError: no pair gives two clusters.
    """
    _check(reports)
    vectors = normalize(vectorizer.fit_transform(sampled(reports)))
    scores, best = np.full((len(clusterers), len(reducers)), np.nan), None
    for column, reducer in enumerate(reducers):
        reduced = reducer.fit_transform(vectors)
        for row, clusterer in enumerate(clusterers):
            results = Distiller(vectorizer=vectorizer, reducer=reducer, clusterer=clusterer, neighbors=neighbors)
            results.fit_reduced(vectors, reduced)
            scores[row, column] = results.silhouette()
            if scores[row, column] == np.nanmax(scores, initial=-1.0):
                best = results
    if best is None:
        raise ValueError(f"clusterers: none finds two clusters in {len(reports)} reports; pass other sizes")
    return best, scores


def sampled(reports: Sequence[str]) -> Sequence[str]:
    """:data:`MOST` of ``reports`` at random, always the same ones; all where they are no more."""
    if len(reports) <= MOST:
        return reports
    chosen = np.random.default_rng(0).choice(len(reports), MOST, replace=False)
    return [reports[index] for index in np.sort(chosen)]


def _check(reports: Sequence[str]) -> None:
    empty = [index for index, report in enumerate(reports) if not report.strip()]
    if not len(reports) or empty:
        raise ValueError(
            f"reports: {len(empty)} of {len(reports)} hold no text, first {empty[:3]}; leave such studies out"
        )


def by_size(labels: np.ndarray) -> np.ndarray:
    """The same clusters, numbered from the largest on (ties: the one that comes first); noise stays."""
    names, first, counts = np.unique(labels[labels != NOISE], return_index=True, return_counts=True)
    order = np.lexsort((first, -counts))
    number = {int(names[position]): rank for rank, position in enumerate(order)}
    return np.array([number.get(int(label), NOISE) for label in labels], dtype=np.int64)


def umap_reducer(**options: Any) -> Any:
    """``umap.UMAP`` (McInnes et al. 2018).

    Raises:
        ValueError: umap-learn is not installed.
    """
    return import_package("umap", package="umap-learn", extra="distill").UMAP(**options)


def topics(reports: Sequence[str], labels: np.ndarray, *, analyzer: Any, words: int = 10) -> dict[int, list[str]]:
    """The words that set each cluster apart: class-based TF-IDF (Grootendorst 2022) over its joined reports.

    Punctuation and words of more than half of all reports are left out.

    Args:
        analyzer: a text to its words, as ``CountVectorizer`` takes it.
    """
    counter = CountVectorizer(analyzer=analyzer)
    each = counter.fit_transform(reports)
    names = [int(name) for name in np.unique(labels)]
    counts = np.stack([np.asarray(each[labels == name].sum(0))[0] for name in names]).astype(float)
    share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    weight = share * np.log(1 + counts.sum() / len(names) / counts.sum(0))
    vocabulary = counter.get_feature_names_out()
    telling = np.array([any(c.isalnum() for c in word) for word in vocabulary])
    telling &= np.asarray((each > 0).mean(0))[0] <= COMMON
    ranked = np.where(telling, weight, 0.0)
    return {
        n: [str(vocabulary[i]) for i in row.argsort()[::-1][:words] if row[i] > 0]
        for n, row in zip(names, ranked, strict=True)
    }


def save(distiller: Distiller, folder: str | Path) -> None:
    """Write what :meth:`Distiller.assign` needs: ``distiller.json`` and ``distiller.npz``; no pickle.

    Raises:
        TypeError: the vectoriser has a state that is no vocabulary.
    """
    vectorizer = distiller.vectorizer
    words = getattr(vectorizer, "vocabulary_", {})
    if not words and not getattr(vectorizer, "pretrained", False):
        raise TypeError(f"distiller: a {type(vectorizer).__name__} cannot be saved; use Count- or TfidfVectorizer")
    vectors = sparse.csr_matrix(distiller.vectors)
    arrays = {"data": vectors.data, "indices": vectors.indices, "indptr": vectors.indptr, "labels": distiller.labels,
              "width": vectors.shape[1]}  # fmt: skip
    if hasattr(vectorizer, "idf_"):
        arrays["idf"] = vectorizer.idf_
    target, numbers = (Path(folder) / name for name in FILES)
    with whole_file(numbers) as part, open(part, "wb") as file:
        np.savez_compressed(file, **arrays)
    content = {
        "vocabulary": sorted(words, key=words.__getitem__),
        "neighbors": distiller.neighbors,
        "vectorizer": type(vectorizer).__name__,
    }
    write_json(target, content)


def load(folder: str | Path, *, vectorizer: Any) -> Distiller:
    """A distiller that assigns, from what :func:`save` wrote.

    Args:
        vectorizer: made with the options of the one that was saved; its vocabulary and weights are set here.

    Raises:
        FileNotFoundError: nothing was saved in ``folder``.
        ValueError: another kind of vectoriser was saved.
    """
    path = Path(folder) / "distiller.json"
    if not path.is_file():
        raise FileNotFoundError(f"distiller: no {str(path)!r}; run distill.json first")
    content = json.loads(path.read_text(encoding="utf-8"))
    if content["vectorizer"] != type(vectorizer).__name__:
        raise ValueError(f"vectorizer: {str(path)!r} was made with {content['vectorizer']}; use the same options")
    with np.load(Path(folder) / "distiller.npz", allow_pickle=False) as arrays:
        if content["vocabulary"]:
            vectorizer.set_params(vocabulary={word: index for index, word in enumerate(content["vocabulary"])})
        if "idf" in arrays:
            vectorizer.idf_ = arrays["idf"]
        shape = (len(arrays["labels"]), int(arrays["width"]))
        vectors = sparse.csr_matrix((arrays["data"], arrays["indices"], arrays["indptr"]), shape=shape)
        distiller = Distiller(vectorizer=vectorizer, reducer=None, clusterer=None, neighbors=content["neighbors"])
        distiller.vectors, distiller.labels = vectors, arrays["labels"]
    return distiller
