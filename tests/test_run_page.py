import base64
import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ignite.engine import Engine
from PIL import Image

from common.engine import progress
from common.engine.progress import EpochLine, read_history
from common.metrics.intervals import mean_interval
from common.results import charts
from common.results.blocks import Section, figure, render
from common.results.case_sections import case_section
from common.results.metric_words import HEADLINES, WORDS, headlines
from common.results.page import curves, metrics_table, read_cases, summaries, write_page
from tests.warm import Running


@pytest.fixture
def run(tmp_path) -> Path:
    """An output folder with five cases, whose Dice is 0.1 to 0.9."""
    rng = np.random.default_rng(0)
    entries, rows = [], ["case,dice"]
    for number in range(5):
        image = str(tmp_path / f"im<{number}>.png")
        Image.fromarray(rng.integers(0, 255, (40, 60), dtype=np.uint8)).save(image)
        Image.new("RGB", (60, 40), (number, 0, 0)).save(tmp_path / f"{number}_overlay.png")
        words = [{"word": "nodule", "start": 2, "end": 8, "probability": 0.9}]
        entries.append({"image": image, "overlay": f"{number}_overlay.png", "report": "A nodule <b>.", "words": words})
        rows.append(f"{image},{0.1 + 0.2 * number}")
    (tmp_path / "predictions.json").write_text(json.dumps(entries))
    (tmp_path / "per_case.csv").write_text("\n".join(rows))
    (tmp_path / "metrics.json").write_text(json.dumps({"dice": 0.5, "hd95": 12.0}))
    return tmp_path


def test_the_page_needs_no_other_file_and_no_network(run):
    page = write_page(run, title="A & B", note="Noted.").read_text()
    assert "<h1>A &amp; B</h1>" in page and "Noted." in page
    assert not re.search(r'src="(?!data:)', page) and "://" not in page and "import " not in page
    links = re.findall(r'href="([^"]*)"', page)
    assert len(links) == 5 and all((run / link).is_file() for link in links)  # pictures in full, beside the page
    assert "&lt;b&gt;" in page and "im&lt;0&gt;" in page


def test_worst_cases_come_first_then_the_best(run):
    page = write_page(run).read_text()
    order = re.findall(r"im&lt;(\d)&gt;.png: Dice", page)
    assert order == ["0", "1", "4", "3", "2"]
    assert page.index("Worst cases") < page.index("Best cases")


def test_title_and_note_are_kept_for_the_command(run):
    write_page(run, title="Kept", note="This, too.")
    done = Running([run], module="common.visualize").wait()
    assert done.returncode == 0, done.stderr
    page = (run / "index.html").read_text()
    assert "<h1>Kept</h1>" in page and "This, too." in page
    (run / "empty").mkdir()
    done = Running([run / "empty"], module="common.visualize").wait()
    assert done.returncode == 1 and "neither predictions.json nor metrics.json" in done.stderr
    assert "Traceback" not in done.stderr


def test_intervals_only_where_a_metric_is_the_mean_of_its_cases(run):
    block = metrics_table({"dice": 0.5, "hd95": 12.0}, *read_cases(run / "per_case.csv"))
    table = render("", [Section("", [block])])
    low, high = map(float, re.search(r"0\.500</td><td>([\d.]+) to ([\d.]+)<", table).groups())
    assert 0.1 <= low < 0.5 < high <= 0.9
    assert "<th>hd95</th><td>12.000</td><td></td>" in table
    page = write_page(run, evaluated="5 cases of the day").read_text()
    assert "<dt>Dice</dt>" in page and "<b>0.50</b> 95 % interval" in page and "1 is the same, 0 is apart" in page
    assert "5 cases of the day." in page and "5 cases of the day." in write_page(run).read_text()


def test_intervals_draw_patients_and_not_their_images(run):
    values = np.repeat(np.linspace(0.1, 0.9, 10), 10)  # ten patients with ten equal images each
    rows = [f"{index}.png,{index // 10},{value}" for index, value in enumerate(values)]
    (run / "per_case.csv").write_text("\n".join(["case,patient,dice", *rows]))
    cases, patients = read_cases(run / "per_case.csv")
    assert all(set(case) == {"dice"} for case in cases.values()) and len(set(patients.values())) == 10
    tables = [render("", [Section("", [metrics_table({"dice": 0.5}, cases, of)])]) for of in (patients, {})]
    assert "over 10 patients" in tables[0] and "over 100 cases" in tables[1]
    limits = [list(map(float, re.search(r"([\d.]+) to ([\d.]+)<", table).groups())) for table in tables]
    assert limits[0] == pytest.approx(mean_interval(values.reshape(10, 10).tolist())[1:], abs=1e-3)
    assert limits[0][1] - limits[0][0] > 2.5 * (limits[1][1] - limits[1][0])


def test_a_file_of_the_predictions_stays_inside_the_folder(run):
    Image.new("RGB", (8, 8)).save(run.parent / "secret.png")
    section = render("", [case_section(run, {"image": "a.png", "overlay": "../secret.png"})])
    assert "data:image" not in section


def test_sentences_carry_what_they_look_at(run):
    sentences = [{"text": "An effusion.", "probability": 0.9, "regions": [0.4]}]
    boxes = [{"label": "Pleural effusion", "box": [15, 10, 30, 20], "score": 0.8}]
    entry = {"study": "s", "images": [str(run / "im<0>.png")], "report": "An effusion.", "sentences": sentences}
    section = render("", [case_section(run, {**entry, "boxes": boxes})])
    assert 'data-shares="[0.4]"' in section
    assert "left:25.00%;top:25.00%;width:50.00%;height:50.00%" in section
    assert "data-region=" not in render("", [case_section(run, {**entry, "boxes": []})])
    assert "data-region=" not in render("", [case_section(run, {**entry, "boxes": boxes, "images": ["gone.png"]})])


def svg(source):
    return base64.b64decode(source.removeprefix("data:image/svg+xml;base64,")).decode()


def test_a_classifier_has_its_curves_and_its_headlines():
    labels = {"1": 1.0, "2": 1.0, "3": 0.0, "4": 0.0}
    cases = {name: {"prob": 0.2 + 0.2 * label, "malignancy": label} for name, label in labels.items()}
    metrics = {"roc_auc": 1.0, "recall": 0.5, "calibration_error": 0.1, "dice": None}
    (section,) = summaries(metrics, cases, {})
    page = render("", [section])
    assert "ROC AUC" in page and "<dt>Sensitivity</dt>" in page and "<dt>Dice</dt>" not in page
    assert "AUC 1.00" in svg(section.blocks[1]["source"])
    (section,) = summaries(metrics, {name: case for name, case in cases.items() if name in "12"}, {})
    assert [block["kind"] for block in section.blocks] == ["headlines", "details"]  # one class has no curve


def test_what_is_no_number_is_not_drawn(tmp_path):
    pairs = [(0.9, 1.0), (float("nan"), 1.0), (0.1, 0.0)]
    cases = {str(index): {"prob": prob, "malignancy": label} for index, (prob, label) in enumerate(pairs)}
    assert summaries({"roc_auc": 1.0}, cases, {})[0].blocks[1]["kind"] == "chart"
    history = [
        {"epoch": 1.0, "loss a": float("nan"), "loss b": 0.5},
        {"epoch": 2.0, "loss a": float("nan"), "loss b": 0.25},
    ]
    picture = svg(curves(history)[0]["source"])
    assert 'id="loss b"' in picture and 'id="loss a"' not in picture
    entry = {"image": "a", "overlay": "a\0.png", "reference": "No pleural effusion."}
    assert "Named by only the reference" in render("", [case_section(tmp_path, entry, organ="chest")])


def test_charts_are_the_same_each_time():
    values = {"dice": [0.1, 0.5, 0.9]}
    assert charts.distribution(values) == charts.distribution(values)


def test_headlines_are_few_and_known():
    assert set(HEADLINES) <= set(WORDS)
    assert headlines(["recall", "threshold", "dice", "hd95", "iou", "nsd", "bleu_4"]) == [
        "dice",
        "iou",
        "nsd",
        "hd95",
        "bleu_4",
    ]
    assert headlines(["roc_auc", "recall"]) == ["roc_auc", "recall"] and headlines(["other"]) == []


def test_generated_and_reference_report_stand_side_by_side(run):
    entry = {
        "study": "s",
        "report": "There is a pleural effusion. There is no granuloma.",
        "reference": "No <b> pneumothorax. Pleural effusion. A granuloma.",
    }
    page = render("", [case_section(run, entry, organ="chest")])
    assert "Reference report" in page and "No &lt;b&gt; pneumothorax" in page
    assert re.search(r"Named by both:</b> pleural effusion", page)
    assert re.search(r"Stated by one, denied by the other:</b> granuloma", page)
    assert re.search(r"Named by only the reference:</b> [^<]*pneumothorax", page)


LAYERS = ("truth", "prediction")


def test_truth_and_prediction_are_outlines_that_can_be_hidden(tmp_path):
    """Of a case whose true mask is known; of another, or where a file is gone, the picture stays."""
    pixels, truth, found = np.zeros((60, 100), np.uint8), np.zeros((60, 100), np.uint8), np.zeros((60, 100), np.uint8)
    truth[10:40, 20:50], found[15:45, 20:50] = 255, 255
    for name, array in (("a", pixels), ("truth", truth), ("a_mask", found), ("a_overlay", pixels)):
        Image.fromarray(array).save(tmp_path / f"{name}.png")
    entry = {"image": str(tmp_path / "a.png"), "mask": "a_mask.png", "overlay": "a_overlay.png"}
    known = {**entry, "truth": str(tmp_path / "truth.png")}
    page = render("", [case_section(tmp_path, known)])
    assert all(f'<path class="{name}" d="M' in page and f'id="show-{name}" checked' in page for name in LAYERS)
    assert 'href="a_overlay.png"' in page and page.count("data:image/jpeg") == 1
    corners = [int(number) for number in re.search(r'class="truth" d="M([^Z]*)Z', page)[1].replace("L", " ").split()]
    assert [min(corners[::2]), max(corners[::2])] == pytest.approx([20, 49], abs=1.5)
    assert [min(corners[1::2]), max(corners[1::2])] == pytest.approx([10, 39], abs=1.5)
    for other in (entry, {**known, "truth": "gone.png"}, {**known, "truth": "malignant"}):
        page = render("", [case_section(tmp_path, other)])
        assert "<path" not in page and "data:image/jpeg" in page


def test_cases_can_be_found_and_ordered(run):
    page = write_page(run).read_text()
    assert 'data-score="0.9"' in page and 'data-name="im&lt;4&gt;.png"' in page and 'id="find"' in page
    assert '<option value="score">' in page and '<option value="familiarity">' not in page


def test_a_thumbnail_has_its_picture_behind_it():
    large = Image.effect_noise((2000, 1000), 80)
    small, whole = figure(large, "", file="a b.png"), figure(large, "")
    assert len(small["source"]) < len(whole["source"]) / 8 and small["link"] == "a%20b.png" and "link" not in whole


def test_curves_hold_every_epoch(tmp_path):
    evaluator = SimpleNamespace(state=SimpleNamespace(metrics={"dice": 0.25}))
    engine = SimpleNamespace(state=SimpleNamespace(epoch=1, max_epochs=3))
    line = EpochLine(evaluator=evaluator, path=str(tmp_path / "models" / "history.csv"))
    for epoch, terms in enumerate(({"a": [1.0, 3.0]}, {"a": [1.0], "late": [5.0]}, {"a": [0.5]}), start=1):
        engine.state.epoch = epoch
        line._begin(engine)
        for name, values in terms.items():
            for value in values:
                engine.state.output = [{"terms": {name: torch.tensor(value)}}]
                line._collect(engine)
        line._report(engine)
    history = read_history(str(tmp_path / "models" / "history.csv"))
    assert [row["loss a"] for row in history] == [2.0, 1.0, 0.5]
    assert [row.get("loss late") for row in history] == [None, 5.0, None]
    drawn = [svg(block["source"]) for block in curves(history)]
    points = {name: len(re.findall("[ML] ", re.search(rf'<g id="{name}">\s*<path d="([^"]*)"', picture)[1]))
              for picture in drawn for name in re.findall('<g id="((?:loss|validation) [^"]*)"', picture)}  # fmt: skip
    assert points == {"loss a": 3, "loss late": 1, "validation dice": 3}
    assert all("epoch" in picture for picture in drawn)
    engine.state.epoch = 2  # resumed after the first epoch
    line._report(engine)
    assert [row["epoch"] for row in read_history(str(tmp_path / "models" / "history.csv"))] == [1, 2]
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / "metrics.json").write_text('{"dice": 0.2}')
    assert "loss over epochs" in write_page(tmp_path / "eval").read_text()


def test_a_long_epoch_says_how_far_it_is(monkeypatch, caplog):
    monkeypatch.setattr(progress, "QUIET", 0.0)
    trainer = Engine(lambda *_: None)
    progress.StepLine(what="epoch").attach(trainer)
    with caplog.at_level("INFO", logger="common"):
        trainer.run(range(3), max_epochs=2)
    lines = [record.message for record in caplog.records if record.name == progress.__name__]
    assert [line.partition(",")[0] for line in lines] == [f"epoch {e}: batch {b} of 3" for e in (1, 2) for b in (1, 2)]
    assert ["for all 2 epochs" in line for line in lines] == [True, True, False, False]
    assert [progress.duration(seconds) for seconds in (40, 720, 12600)] == ["40 s", "12 min", "3.5 h"]


def test_what_cannot_be_read_is_left_out(run):
    (run / "per_case.csv").write_text("case,dice,note\nim,,x\n,0.5,\nim2,0.25,y,z\n")
    assert read_cases(run / "per_case.csv") == ({"im": {}, "im2": {"dice": 0.25}}, {})
    (run / "0_overlay.png").write_bytes(b"broken")
    (run / "history.csv").write_text("epoch,loss a\n1,x\nnone,2\n2,0.5\n")
    assert write_page(run).is_file()
    assert [row["epoch"] for row in read_history(str(run / "history.csv"))] == [1, 2]
    (run / "metrics.json").write_text("{broken")
    with pytest.raises(ValueError, match="is no JSON"):
        write_page(run)
