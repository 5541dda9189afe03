"""Entity metrics: mentions in both languages, and the four measures."""

import numpy as np
import pytest
from sklearn.metrics import f1_score, precision_score, recall_score

from common.metrics.entities import entity_metrics, mentions, organ_of, read_entities


@pytest.fixture
def thyroid():
    return read_entities("thyroid")


def test_mentions_in_both_languages(thyroid):
    names = list(thyroid)
    chinese, english = mentions(["甲状腺左叶可见低回声结节，边界清", "A hypoechoic NODULE in the left lobe"], thyroid)
    assert {names[i] for i in chinese.nonzero()[0]} == {
        "thyroid gland",
        "echogenicity",
        "border",
        "nodule",
        "left lobe",
    }
    assert {names[i] for i in english.nonzero()[0]} == {"echogenicity", "nodule", "left lobe"}


def test_the_listed_entities_of_the_paper():
    assert [len(read_entities(organ)) for organ in ("thyroid", "breast", "liver")] == [12, 11, 15]
    assert organ_of(["The heart is normal. No pleural effusion."]) == "chest" and organ_of([]) is None
    assert organ_of(["甲状腺大小正常。"]) == "thyroid" and organ_of(["nothing of the kind"]) is None
    with pytest.raises(ValueError, match=r"organ: 'heart' is none of \['breast', 'chest', 'liver', 'thyroid'\]"):
        read_entities("heart")


def test_measures_equal_scikit_learns(thyroid):
    rng = np.random.default_rng(0)
    words = [words[0] for words in thyroid.values()]
    first, second = ([" ".join(rng.choice(words, rng.integers(1, 6))) for _ in range(40)] for _ in range(2))
    first[:5] = second[:5]
    scores = entity_metrics(first, second, thyroid)
    found, wanted = (mentions(texts, thyroid) for texts in (first, second))
    for name, measure in (("precision", precision_score), ("recall", recall_score), ("f1", f1_score)):
        assert scores[f"entity_{name}"] == pytest.approx(measure(wanted, found, average="micro"))
    assert scores["entity_accuracy"] == np.mean([(a == b).all() for a, b in zip(found, wanted, strict=True)])


def test_perfect_empty_and_unequal(thyroid):
    assert entity_metrics(["nodule"], ["nodule"], thyroid) == dict.fromkeys(
        ("entity_accuracy", "entity_precision", "entity_recall", "entity_f1"), 1.0
    )
    assert entity_metrics([""], ["nodule"], thyroid)["entity_f1"] == 0
    one = {"nodule": ["nodule"]}  # of one entity what is absent from both does not count either
    assert entity_metrics(["a nodule", "", ""], ["a nodule", "a nodule", ""], one)["entity_f1"] == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="1 predictions for 2 references"):
        entity_metrics([""], ["a", "b"], thyroid)


def test_a_latin_word_counts_at_the_start_of_a_word_alone():
    chest = read_entities("chest")
    found = mentions(["The described distribution is tuberculous.", "The cardiomediastinal silhouette, ribs."], chest)
    assert found.tolist()[0] == [False] * len(chest)
    assert {name for name, hit in zip(chest, found[1], strict=True) if hit} == {"heart", "mediastinum", "bone"}
