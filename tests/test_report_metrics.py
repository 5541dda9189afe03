"""What all generated reports are measured by, and how various they are."""

import importlib.util
import sys
from types import SimpleNamespace

import pytest

from common.metrics.radeval import names_of, radeval_scores
from common.metrics.reports import ReportMetrics, report_metrics, variety


def test_reports_of_chests_have_their_observations_and_others_have_none():
    chest = report_metrics(["There is cardiomegaly."], ["The heart is enlarged."], organ="chest")
    assert chest["chexpert_f1_14_macro"] == chest["chexpert_f1_5_micro"] == 1.0
    thyroid = report_metrics(["A nodule."], ["A nodule."], organ="thyroid")
    assert thyroid["entity_f1"] == 1.0 and not [name for name in thyroid if name.startswith("chexpert")]


def test_variety_tells_a_collapse_and_copies():
    training = ["The heart is normal.", "No effusion ."]
    one = variety(["the heart is normal ."] * 3 + ["Small effusion."], training)
    assert one == pytest.approx({"distinct_reports": 0.5, "mean_length": 4.5, "copied_reports": 0.75})
    assert "copied_reports" not in variety(["a"], [])


def test_numbers_of_reports_are_compared():
    with pytest.raises(ValueError, match="1"):
        report_metrics(["a"], ["a", "b"], organ="chest")


def test_other_groups_metrics_are_asked_by_name(monkeypatch):
    """Of a stand-in with the interface of radeval 2.2; the package's models cannot be had here."""

    class Stub:
        def __init__(self, *, metrics, show_progress):
            if "nonsense" in metrics:
                raise KeyError("nonsense")
            self.metrics = metrics

        def __call__(self, refs, hyps):
            return {
                **{name: sum(a == b for a, b in zip(refs, hyps, strict=True)) / 2 for name in self.metrics},
                "x": [],
            }

    monkeypatch.setitem(sys.modules, "radeval", SimpleNamespace(RadEval=Stub))
    names = names_of("radgraph, f1chexbert")
    assert radeval_scores(["a", "b"], ["a", "c"], names) == {"radeval_radgraph": 0.5, "radeval_f1chexbert": 0.5}
    with pytest.raises(ValueError, match="radeval: 'nonsense' is not what the package computes"):
        radeval_scores(["a"], ["a"], ["nonsense"])
    assert radeval_scores(["a"], ["a"], []) == {}


@pytest.mark.skipif(importlib.util.find_spec("radeval") is not None, reason="it is installed")
def test_a_package_that_is_not_there_is_named_before_anything_is_computed():
    with pytest.raises(ValueError, match=r"radeval is not installed, which this needs; pip install radeval$"):
        ReportMetrics(organ="chest", radeval="radgraph")
