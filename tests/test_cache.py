from common.text.cache import LRUCache
from common.text.tokenizer import ReportTokenizer
from common.transforms.reports import KEPT, TokenizeReportd


def test_what_was_used_last_stays():
    recent, made = LRUCache(2), []

    def ask(key):
        return recent.get(key, lambda: made.append(key) or key.upper())

    assert [ask(key) for key in "abaca"] == list("ABACA")
    assert made == ["a", "b", "c"] and len(recent) == 2


def test_reports_are_not_kept_for_ever():
    transform = TokenizeReportd(ReportTokenizer.of_words(["nodule"]), max_length=4)
    for number in range(KEPT + 50):
        transform({"report": f"nodule {number}"})
    assert len(transform.known) == KEPT
