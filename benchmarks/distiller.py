"""The clustering distiller on published reports: agreement with the published labels, silhouettes, time, stability.

``python -m benchmarks.distiller --reports FOLDER`` with SGF's ``new_Thyroid2.json``, ``new_Mammary2.json``,
``new_Liver2.json`` and ``key_technical_words.txt``. K is the published one of each organ. Normalised mutual information
(NMI) with the published labels, on the training split (fitted) and on the test split (assigned): mean and range over
seeds. ``stability``: mean NMI between the labels of two seeds. Seconds are of one fit, assignment included.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import time
from pathlib import Path
from typing import Any

import numpy as np
from sgf.distillation.run import texts_of
from sklearn.cluster import KMeans
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.metrics import normalized_mutual_info_score

from common.datasets.annotation import load_annotation
from common.text.distiller import Distiller, choose, umap_reducer
from common.text.tokenizer import ReportTokenizer

logger = logging.getLogger(__name__)
ORGANS = {"thyroid": ("new_Thyroid2.json", 5), "breast": ("new_Mammary2.json", 18), "liver": ("new_Liver2.json", 18)}
EMBEDDINGS = ("words", "TF-IDF of words", "character n-grams")
REDUCERS = ("UMAP 2", "UMAP 10", "SVD 50")
SIZES, DIMS = (2, 5, 7, 10, 15, 18, 20), (2, 5, 10, 50)


def vectorizer(name: str, words: ReportTokenizer) -> CountVectorizer | TfidfVectorizer:
    """A fresh vectoriser."""
    if name == "character n-grams":
        return TfidfVectorizer(analyzer="char", ngram_range=(1, 3), min_df=2)
    return (CountVectorizer if name == "words" else TfidfVectorizer)(analyzer=words.words)


def reducer(name: str, seed: int) -> Any:
    """A fresh reducer."""
    kind, dims = name.split()
    if kind == "SVD":
        return TruncatedSVD(int(dims), random_state=seed)
    options = {"n_neighbors": 10, "min_dist": 0.0, "metric": "cosine", "n_jobs": 1}
    return umap_reducer(n_components=int(dims), random_state=seed, **options)


def agreement(content: dict, clusters: int, embedding: str, reduction: str, words: ReportTokenizer, seeds: int) -> str:
    """One row: NMI of both splits, silhouette, stability, seconds."""
    training, test = (texts_of(content[split]) for split in ("train", "test"))
    known, known_test = ([entry["labels"] for entry in content[split]] for split in ("train", "test"))
    clusterings, scores, taken = [], [], []
    for seed in range(seeds):
        start = time.perf_counter()
        clusterer = KMeans(clusters, n_init=10, random_state=seed)
        made = Distiller(vectorizer=vectorizer(embedding, words), reducer=reducer(reduction, seed), clusterer=clusterer)
        labels, assigned = made.fit(training), made.assign(test)
        taken.append(time.perf_counter() - start)
        clusterings.append(labels)
        nmi = normalized_mutual_info_score
        scores.append((nmi(known, labels), nmi(known_test, assigned), made.silhouette()))
    pairs = [normalized_mutual_info_score(a, b) for a, b in itertools.combinations(clusterings, 2)]
    train, held, silhouette = np.array(scores).T
    cells = [f"{v.mean():.3f} ({v.min():.3f}-{v.max():.3f})" for v in (train, held, silhouette)]
    return " | ".join([*cells, f"{np.mean(pairs):.3f}" if pairs else "-", f"{np.median(taken):.1f}"])


def silhouettes(content: dict, embedding: str, words: ReportTokenizer) -> str:
    """The grid of K and dimension, by UMAP and KMeans."""
    _, scores = choose(
        texts_of(content["train"]),
        vectorizer=vectorizer(embedding, words),
        reducers=[reducer(f"UMAP {dim}", 0) for dim in DIMS],
        clusterers=[KMeans(size, n_init=10, random_state=0) for size in SIZES],
    )
    rows = [" | ".join(["K", *(f"{dim} dims" for dim in DIMS)])]
    rows += [" | ".join([str(k), *(f"{v:.2f}" for v in row)]) for k, row in zip(SIZES, scores, strict=True)]
    return "\n".join(rows)


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--reports", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    words = ReportTokenizer.untrained(user_dictionary=str(arguments.reports / "key_technical_words.txt"))
    words.words("回声")  # jieba's dictionary takes a second to load
    logger.info("organ | K | embedding | reducer | NMI train | NMI test | silhouette | stability | s")
    for organ, (file, clusters) in ORGANS.items():
        content = load_annotation(arguments.reports / file)
        for embedding, reduction in itertools.product(EMBEDDINGS, REDUCERS):
            row = agreement(content, clusters, embedding, reduction, words, arguments.seeds)
            logger.info("%s | %d | %s | %s | %s", organ, clusters, embedding, reduction, row)
        logger.info("%s, words, silhouette:\n%s", organ, silhouettes(content, "words", words))


if __name__ == "__main__":
    main()
