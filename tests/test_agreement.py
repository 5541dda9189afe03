"""Where a generated report and the detector contradict each other."""

import numpy as np
import pydicom
import pytest
from d2rnet.report.agreement import SURE, mark_disagreements

from common.results.case_sections import case_section
from common.results.predictions import PredictionFiles, Shown
from tests.dicom_files import dicom_file

LABELS = ["Cardiomegaly", "Pleural effusion", "Nodule/Mass", "Consolidation", "Infiltration", "Other lesion"]


def entry(*sentences, **boxes):
    found = [{"label": label, "score": score, "box": [1, 2, 3, 4]} for label, score in boxes.pop("boxes", {}).items()]
    return {"sentences": [{"text": text, "probability": 0.9} for text in sentences], "boxes": found}


@pytest.mark.parametrize(
    ("sentence", "boxes", "unseen", "denied", "unreported"),
    [
        ("There is cardiomegaly.", {"Cardiomegaly": 0.9}, [], [], []),
        ("There is cardiomegaly.", {"Cardiomegaly": SURE - 0.1}, ["Cardiomegaly"], [], []),
        ("There is cardiomegaly.", {}, ["Cardiomegaly"], [], []),
        ("There is no pleural effusion.", {}, [], [], []),
        ("There is no pleural effusion.", {"Pleural effusion": 0.8}, [], ["Pleural effusion"], []),
        ("There is no pleural effusion.", {"Pleural effusion": SURE - 0.1}, [], [], []),
        ("A small right pleural effusion and no pneumothorax.", {"Pleural effusion": 0.9}, [], [], []),
        ("Consolidation is not excluded; a left pleural effusion.", {}, ["Consolidation", "Pleural effusion"], [], []),
        ("The heart is not enlarged.", {"Cardiomegaly": 0.9}, [], ["Cardiomegaly"], []),
        ("The heart is normal.", {"Nodule/Mass": 0.8, "Pleural effusion": 0.2}, [], [], ["Nodule/Mass"]),
        ("A consolidation on the left.", {"Infiltration": 0.9}, [], [], []),  # opacities are one
        ("There is a pneumothorax.", {}, [], [], []),  # which this detector does not know
        ("The heart is normal.", {"Other lesion": 0.9}, [], [], []),  # which no report names
    ],
)
def test_what_contradicts_is_marked(sentence, boxes, unseen, denied, unreported):
    told = entry(sentence, boxes=boxes)
    mark_disagreements(told, LABELS)
    assert told["sentences"][0]["unseen"] == unseen and told["sentences"][0]["denied_but_seen"] == denied
    assert told["unreported"] == unreported


def test_boxes_without_a_label_contradict_nothing():
    told = entry("There is cardiomegaly.", "No effusion.")
    told["boxes"] = [{"label": "", "score": 0.9, "box": [1, 2, 3, 4]}]
    mark_disagreements(told, LABELS)
    assert told["sentences"][0]["unseen"] == ["Cardiomegaly"] and told["unreported"] == []
    assert told["sentences"][0]["stated"] == ["Cardiomegaly"]


def test_the_page_says_so(tmp_path):
    boxes = {"Pleural effusion": 0.8, "Nodule/Mass": 0.7, "Consolidation": 0.3}
    told = entry("There is cardiomegaly.", "No pleural effusion.", "There is a consolidation.", boxes=boxes)
    mark_disagreements(told, LABELS)
    blocks = case_section(tmp_path, {**told, "study": "a", "report": "x"}).blocks
    (lines,) = (block["lines"] for block in blocks if block["kind"] == "sentences")
    assert lines[0]["against"] == "the detector sees no cardiomegaly"
    assert lines[1]["against"] == "the detector sees pleural effusion"
    assert lines[2]["against"] == "the detector is not sure of consolidation"
    assert any("nodule/mass" in block.get("text", "") for block in blocks if block["kind"] == "warning")


def test_the_report_for_an_archive_says_so(tmp_path):
    """As lines below the report's own."""
    told = entry("There is cardiomegaly.", "The heart is normal.", boxes={"Nodule/Mass": 0.7})
    mark_disagreements(told, LABELS)
    image = str(dicom_file(tmp_path / "a.dcm", np.zeros((32, 32), dtype=np.uint8), Modality="CR"))
    shown = Shown({**told, "warning": "unlike"}, {}, report="There is cardiomegaly.", images=[image])
    writer = PredictionFiles(output_dir=str(tmp_path), show=lambda *_: shown, title="D2R-Net: x", note="", dicom=True)
    report = pydicom.dcmread(tmp_path / writer.write(image, "a", shown)["dicom_report"])
    (text,) = [item.value for item in report.iterall() if item.keyword == "TextValue"]
    assert text.split("\n") == [
        "There is cardiomegaly.",
        '"There is cardiomegaly.": the detector sees no cardiomegaly.',
        "The detector sees what the report does not speak of: nodule/mass.",
        "unlike",
    ]
