"""Text metrics: equal to pycocoevalcap where golden numbers exist, and what each measure promises."""

import math

import pytest

from common.metrics.text import bleu, cider_d, longest_common_subsequence, meteor, rouge_l, text_metrics, tokens_of
from tests import published_numbers


@pytest.fixture(scope="module")
def golden():
    recorded = published_numbers.load("metrics_english")
    return [[pair[key].split() for pair in recorded["pairs"]] for key in ("prediction", "reference")], recorded[
        "scores"
    ]


def test_equal_to_the_reference_implementation(golden):
    (predictions, references), recorded = golden
    scores = bleu(predictions, references)
    for order in range(1, 5):
        assert scores[f"bleu_{order}"] == pytest.approx(recorded[f"BLEU-{order}"]["corpus"], rel=1e-8)
    assert rouge_l(predictions, references) == pytest.approx(recorded["ROUGE-L"]["corpus"], rel=1e-8)
    assert cider_d(predictions, references) == pytest.approx(recorded["CIDEr-D"]["corpus"], rel=1e-8)


def test_each_report_alone_equals_the_reference_implementation(golden):
    (predictions, references), recorded = golden
    for index, pair in enumerate(zip(predictions, references, strict=True)):
        prediction, reference = ([tokens] for tokens in pair)
        assert rouge_l(prediction, reference) == pytest.approx(recorded["ROUGE-L"]["items"][index], rel=1e-8)
        alone = bleu(prediction, reference)
        for order in range(1, 5):
            assert alone[f"bleu_{order}"] == pytest.approx(recorded[f"BLEU-{order}"]["items"][index], rel=1e-7)


def test_meteor_is_near_the_java_program(golden):
    (predictions, references), recorded = golden
    items = recorded["METEOR"]["items"]
    assert meteor(predictions, references) == pytest.approx(sum(items) / len(items), abs=2e-3)
    for index, (prediction, reference) in enumerate(zip(predictions, references, strict=True)):
        assert meteor([prediction], [reference]) == pytest.approx(items[index], abs=0.1)


def test_perfect_and_disjoint_reports():
    report = "the heart is normal . no effusion"
    perfect = text_metrics([report, "clear lungs on both sides"], [report, "clear lungs on both sides"])
    assert perfect["cider_d"] == pytest.approx(10)
    assert all(perfect[key] == pytest.approx(1, abs=1e-6) for key in ("bleu_4", "meteor_nltk", "rouge_l"))
    apart = text_metrics(["a b c d", "e f g h"], ["i j k l", "m n o p"])
    assert all(value < 1e-3 for value in apart.values())


def test_an_empty_prediction_scores_zero_and_is_no_error():
    scores = text_metrics(["", "a b"], ["the heart is normal", "a b"])
    assert all(0 <= value <= 10 and math.isfinite(value) for value in scores.values())
    assert text_metrics(["", ""], ["the heart", "is normal"])["meteor_nltk"] == 0


def test_meteor_matches_stems():
    assert meteor([["two", "nodules"]], [["two", "nodule"]]) > meteor([["two", "masses"]], [["two", "nodule"]])


def test_longest_common_subsequence_by_brute_force():
    first, second = "abcbdab", "bdcaba"
    subsequences = {""}
    for letter in first:
        subsequences |= {found + letter for found in subsequences}

    def inside(short):
        rest = iter(second)
        return all(letter in rest for letter in short)

    assert longest_common_subsequence(first, second) == max(len(s) for s in subsequences if inside(s)) == 4


def test_tokens():
    assert tokens_of("大小约_2DS_，CDFI示。") == ["大", "小", "约", "_2ds_", "，", "cdfi", "示", "。"]
    assert tokens_of("Well-defined, 1.2 cm; the patient's") == [
        "well-defined",
        ",",
        "1.2",
        "cm",
        ";",
        "the",
        "patient's",
    ]


@pytest.mark.parametrize("metric", [bleu, rouge_l, cider_d, meteor])
def test_texts_in_place_of_tokens_are_refused(metric):
    with pytest.raises(TypeError, match="'a nodule' is a text, whose letters would be scored; pass tokens_of"):
        metric(["a nodule"], [["a", "nodule"]])


def test_unequal_lists_are_refused():
    with pytest.raises(ValueError, match="reports: 1 predictions for 2 references"):
        bleu([["a"]], [["a"], ["b"]])
