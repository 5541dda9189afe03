"""What all generated reports are measured by, and how various they are."""

import pytest

from common.metrics.reports import report_metrics, variety


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
