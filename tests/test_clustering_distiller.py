"""The distiller: clusters of reports that say alike, labels for other reports, noise, topics, and a model on disk."""

import numpy as np
import pytest
from sklearn.cluster import HDBSCAN, KMeans
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer
from sklearn.metrics import normalized_mutual_info_score

from common.text.distiller import NOISE, Distiller, by_size, load, save, topics

KINDS = {
    "cyst": ["anechoic cyst with a thin wall", "simple cyst , anechoic , thin wall", "thin wall and anechoic content"],
    "solid": ["solid hypoechoic nodule , taller than wide", "hypoechoic solid lesion", "taller than wide solid nodule"],
    "normal": ["no focal lesion seen", "normal size and no focal finding", "size normal , nothing focal seen"],
}


def reports(count, seed):
    """Reports of the three kinds, words shuffled, and their kinds; "cyst" is the most frequent one."""
    rng = np.random.default_rng(seed)
    kinds = rng.choice(list(KINDS), size=count, p=[0.5, 0.3, 0.2])
    texts = [" ".join(rng.permutation(" ".join(rng.choice(KINDS[kind], 2)).split())) for kind in kinds]
    return texts, kinds.tolist()


def make(vectorizer=None, **options):
    parts = {"reducer": TruncatedSVD(5, random_state=0), "clusterer": KMeans(3, n_init=5, random_state=0), **options}
    return Distiller(vectorizer=vectorizer or TfidfVectorizer(), **parts)


@pytest.mark.parametrize("vectorizer", [CountVectorizer, TfidfVectorizer])
def test_kinds_are_found_and_others_are_labelled_alike(vectorizer):
    texts, kinds = reports(120, 0)
    distiller = make(vectorizer())
    assert normalized_mutual_info_score(kinds, distiller.fit(texts)) > 0.95
    others, other_kinds = reports(60, 1)
    assert normalized_mutual_info_score(other_kinds, distiller.assign(others)) > 0.95
    assert 0.3 < distiller.silhouette() <= 1
    assert np.bincount(distiller.labels).argmax() == 0  # the largest cluster comes first


def test_the_same_seed_gives_the_same_labels():
    texts, _ = reports(80, 2)
    assert np.array_equal(make().fit(texts), make().fit(texts))


def test_the_training_reports_keep_their_labels():
    texts, _ = reports(80, 3)
    distiller = make(neighbors=1)
    labels = distiller.fit(texts)
    assert np.array_equal(distiller.assign(texts), labels)


def test_noise_is_no_cluster():
    texts, kinds = reports(90, 4)
    odd = ["zebra quokka", "umbrella piano", "volcano"]
    distiller = make(clusterer=HDBSCAN(min_cluster_size=8, copy=True), reducer=TruncatedSVD(24, random_state=0))
    labels = distiller.fit([*texts, *odd])
    assert NOISE in labels[-3:] and normalized_mutual_info_score(kinds, labels[:90]) > 0.7
    assert set(labels) - {NOISE} == set(range(labels.max() + 1))
    assert np.isfinite(distiller.silhouette())


def test_labels_by_size():
    assert by_size(np.array([7, 7, 3, NOISE, 3, 3, 5])).tolist() == [1, 1, 0, NOISE, 0, 0, 2]
    assert by_size(np.array([4, 9])).tolist() == [0, 1]
    assert by_size(np.array([NOISE])).tolist() == [NOISE]


def test_topics_are_the_words_that_set_a_cluster_apart():
    texts, _ = reports(120, 0)
    distiller = make()
    found = topics(texts, distiller.fit(texts), analyzer=str.split, words=4)
    assert {"anechoic", "thin"} <= set(found[0]) and "solid" in found[1] and "focal" in found[2]


@pytest.mark.parametrize("vectorizer", [CountVectorizer, TfidfVectorizer])
def test_a_saved_distiller_labels_alike(vectorizer, tmp_path):
    texts, _ = reports(100, 5)
    distiller = make(vectorizer(analyzer=str.split))
    distiller.fit(texts)
    save(distiller, tmp_path)
    others, _ = reports(40, 6)
    again = load(tmp_path, vectorizer=vectorizer(analyzer=str.split))
    assert np.array_equal(again.assign(others), distiller.assign(others))
    assert {file.name for file in tmp_path.iterdir()} == {"distiller.json", "distiller.npz"}


def test_a_report_without_a_known_word_is_noise():
    texts, _ = reports(60, 0)
    distiller = make()
    distiller.fit(texts)
    assert distiller.assign(["zygote quark", texts[0]])[0] == NOISE


def test_refusals(tmp_path):
    with pytest.raises(ValueError, match=r"reports: 1 of 2 hold no text, first \[1\]"):
        make().fit(["a", " "])
    with pytest.raises(RuntimeError, match="call fit or load before assign"):
        make().assign(["a"])
    with pytest.raises(FileNotFoundError, match=r"distiller: no .*run distill\.json first"):
        load(tmp_path, vectorizer=CountVectorizer())
    distiller = make()
    distiller.fit(reports(30, 0)[0])
    save(distiller, tmp_path)
    with pytest.raises(ValueError, match="was made with TfidfVectorizer"):
        load(tmp_path, vectorizer=CountVectorizer())
