"""Lesions named in a report against those in boxes."""

import pytest
import torch
from d2rnet.report.lesion_names import Named, named_lesions, side_of
from d2rnet.report.metrics import LesionMetrics

from common.synthetic.chest import FOUND, NORMAL


@pytest.mark.parametrize(("label", "sentence"), [(label, s) for label, texts in FOUND.items() for s in texts])
def test_every_synthetic_sentence_names_its_lesion(label, sentence):
    found = named_lesions(sentence.format(side="left", zone="upper"))
    assert {lesion.label for lesion in found} == {label}
    assert {lesion.side for lesion in found} == ({"left"} if "{side}" in sentence else {""})


def test_what_is_denied_is_not_named():
    assert not named_lesions(" ".join(text for texts in NORMAL.values() for text in texts))
    both = named_lesions("No effusion. There are bilateral nodules in the right and left lung.")
    assert both == {Named("Nodule/Mass", "right"), Named("Nodule/Mass", "left")}


@pytest.mark.parametrize(
    ("sentence", "stated"),
    [
        ("There is a small right pleural effusion and no left pneumothorax.", {("Pleural effusion", "right")}),
        ("Pneumonia is not excluded; a left pleural effusion is present.", {("Pleural effusion", "left")}),
        ("No pneumothorax, but a nodule on the left.", {("Nodule/Mass", "left")}),
        ("There may be a consolidation in the right lower lobe.", {("Consolidation", "right")}),
        ("The heart is mildly enlarged without edema.", {("Cardiomegaly", "")}),
        ("The heart is not enlarged.", set()),
        ("Pneumothorax: none.", set()),
        ("A massive left effusion.", {("Pleural effusion", "left")}),
        ("Two masses.", {("Nodule/Mass", "")}),
        ("There is a right pleural effusion but no left pleural effusion.", {("Pleural effusion", "right")}),
        ("Left pleural effusion without right pleural effusion.", {("Pleural effusion", "left")}),
        ("No effusion on the right, left effusion is seen.", {("Pleural effusion", "left")}),
        ("Left hydropneumothorax.", {("Pneumothorax", "left")}),
        ("Multiple micronodules.", {("Nodule/Mass", "")}),
        ("The heart is again enlarged.", {("Cardiomegaly", "")}),
        ("The heart is no longer enlarged.", set()),
        ("The heart is normal with enlarged hila.", set()),
        (
            "Fracture of the sternum with a left pleural effusion and a deformed rib.",
            {("Pleural effusion", "left")},
        ),
        ("Fractures of the left sixth rib are seen, no effusion.", {("Rib fracture", "left")}),
    ],
)
def test_a_denial_holds_for_what_it_denies(sentence, stated):
    assert named_lesions(sentence) == {Named(*lesion) for lesion in stated}


def test_the_patients_right_is_the_images_left():
    assert [side_of(10, 100), side_of(90, 100)] == ["right", "left"]


def test_counts_of_a_split():
    metrics = LesionMetrics(organ="chest")
    rows = [
        ("There is cardiomegaly. There is a left pleural effusion.", "right:Cardiomegaly;right:Pleural effusion"),
        ("The lungs are clear.", "left:Nodule/Mass"),
        ("There is a nodule in the left upper zone.", ""),
    ]
    probable = {"log_probs": torch.tensor([-0.1]), "detected": torch.tensor(False)}
    items = [{"text": text, "lesions": lesions, **probable} for text, lesions in rows]
    items.append({**items[0], "lesions": "left:Nodule/Mass", "detected": torch.tensor(True)})
    numbers = [metrics.numbers(item) for item in items]
    summary = metrics.summary({key: torch.tensor([row[key] for row in numbers]) for key in numbers[0]})
    assert summary == pytest.approx(
        {"lesion_precision": 2 / 3, "lesion_recall": 2 / 3, "lesion_f1": 2 / 3, "lesion_side": 0.0}
    )
    assert metrics.summary({key: torch.zeros(2) for key in numbers[0]}) == {}
    assert metrics.summary({key: torch.tensor([numbers[3][key]]) for key in numbers[0]}) == {}
