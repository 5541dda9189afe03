"""Two evaluations, case by case: differences, intervals over patients, and what cannot be compared."""

import csv

import numpy as np
import pytest

from common.cli.compare import main
from common.metrics.classification import classification_metrics
from common.metrics.intervals import intervals_of
from common.results.comparison import compare, read_both


def written(folder, rows):
    folder.mkdir()
    with open(folder / "per_case.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


def runs(tmp_path, gain, count=60):
    rng = np.random.default_rng(1)
    dice = rng.uniform(0.4, 0.8, count)
    first = [{"case": f"a/{n}.png", "patient": n // 3, "dice": dice[n]} for n in range(count)]
    second = [
        {**row, "case": f"b/{n}.png", "dice": dice[n] + gain + rng.normal(0, 0.01)} for n, row in enumerate(first)
    ]
    return written(tmp_path / "one", first), written(tmp_path / "two", second)


def test_a_gain_is_told_with_its_interval_and_none_is_not(tmp_path):
    first, second, patients = read_both(runs(tmp_path, 0.05))
    ((name, _, _, gain, interval, p, higher, lower),) = compare(first, second, patients)
    low, high = map(float, interval.split(" to "))
    assert (
        name == "dice" and low < float(gain) < high and low > 0.04 and high < 0.06 and len(set(patients.values())) == 20
    )
    assert float(p) < 1e-4 and int(higher) + int(lower) == 60 and int(lower) < 3
    (row,) = compare(first, first, patients)
    assert row[3:] == ("+0.000", "+0.000 to +0.000", "", "0", "0")


def test_a_cell_without_a_number_costs_its_case_and_not_the_metric(tmp_path, caplog):
    folders = runs(tmp_path, 0.05)
    rows = list(csv.DictReader((folders[1] / "per_case.csv").open()))
    rows[7]["dice"] = "n/a"
    (tmp_path / "again").mkdir()
    second = written(tmp_path / "again" / "two", rows)
    (row,) = compare(*read_both([folders[0], second]))
    assert row[0] == "dice" and int(row[6]) + int(row[7]) == 59
    assert "dice: without 1 of 60 cases" in caplog.text


def test_the_auc_of_a_classifier_is_compared(tmp_path):
    rng = np.random.default_rng(0)
    label = np.arange(80) % 2
    scores = {"one": rng.uniform(size=80), "two": 0.8 * label + rng.uniform(size=80)}
    folders = [
        written(tmp_path / name, [{"case": n, "malignancy": label[n], "prob": score[n]} for n in range(80)])
        for name, score in scores.items()
    ]
    (row,) = compare(*read_both(folders))
    assert row[0] == "roc_auc" and float(row[3]) > 0.2 and float(row[4].split(" to ")[0]) > 0


def test_a_probability_without_a_number_costs_its_case_and_not_the_auc(tmp_path, caplog):
    rows = [{"case": n, "malignancy": n % 2, "prob": (n % 2 + n % 3) / 3} for n in range(30)]
    changed = [{**row, "prob": "" if row["case"] == 4 else 0.5 * row["prob"]} for row in rows]
    row = compare(*read_both([written(tmp_path / "one", rows), written(tmp_path / "two", changed)]))[-1]
    assert row[0] == "roc_auc" and float(row[3]) == 0 and "prob: without 1 of 30 cases" in caplog.text


def test_what_cannot_be_compared_is_one_line(tmp_path):
    one, two = runs(tmp_path, 0.0)
    with pytest.raises(SystemExit, match=r"no file .*nowhere.*per_case.csv"):
        main([str(one), str(tmp_path / "nowhere")])
    other = written(tmp_path / "other", [{"case": "x.png", "dice": 1.0}])
    with pytest.raises(SystemExit, match=r"61 cases are in one run alone, such as '0.png'"):
        main([str(two), str(other)])


def test_intervals_are_of_means_over_cases_alone():
    cases = {str(n): {"dice": n / 10} for n in range(10)}
    told = intervals_of({"dice": 0.45, "auc": 0.9, "nothing": None}, cases, {})
    assert told.keys() == {"dice"} and told["dice"][0] < 0.45 < told["dice"][1]


def test_sensitivity_at_a_specificity():
    label = np.array([0] * 10 + [1] * 4)
    prob = np.array([*np.linspace(0, 0.45, 9), 0.8, 0.2, 0.7, 0.9, 0.95])
    metrics = classification_metrics(label, prob, 0.5)
    assert metrics["sensitivity_at_90_specificity"] == 0.75 and metrics["sensitivity_at_95_specificity"] == 0.5
    assert metrics["specificity_at_90_sensitivity"] == pytest.approx(0.4)
    assert metrics["brier"] == pytest.approx(np.mean((prob - label) ** 2))
