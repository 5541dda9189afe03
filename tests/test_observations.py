"""The labeller of the 14 observations: hand-written sentences whose labels were decided by reading, and the scores."""

import json
import time
from collections import Counter

import numpy as np
import pytest
from sklearn.metrics import f1_score

from common.metrics.assertion import expanded
from common.metrics.observations import (
    FILE,
    FIVE,
    NO_FINDING,
    OBSERVATIONS,
    _rules,
    findings_section,
    label_report,
    observation_scores,
    positives,
)

SHORT = {
    "M": "Enlarged Cardiomediastinum",
    "H": "Cardiomegaly",
    "O": "Lung Opacity",
    "L": "Lung Lesion",
    "E": "Edema",
    "C": "Consolidation",
    "N": "Pneumonia",
    "A": "Atelectasis",
    "X": "Pneumothorax",
    "P": "Pleural Effusion",
    "T": "Pleural Other",
    "F": "Fracture",
    "D": "Support Devices",
}
STATUS = {"+": "present", "?": "uncertain", "-": "absent"}

# What each sentence says: + present, ? uncertain, - absent; what is not listed is not named.
SAID = {
    # forms
    "Pneumothorax: None.": "X-",
    "Pleural effusion: No. Cardiomegaly: Absent. Fracture: no": "P- H- F-",
    "Consolidation - no.": "C-",
    "Effusion: none; pneumothorax: small": "P- X+",
    "Pneumothorax: no change.": "X+",
    "Left pneumothorax resolved.": "X-",
    "Effusion resolved": "P-",
    "Effusion not resolved.": "P+",
    "Edema nearly resolved.": "E+",
    # plain mentions
    "Moderate cardiomegaly.": "H+",
    "Small left pleural effusion.": "P+",
    "BIBASILAR ATELECTASIS": "A+",
    "Multifocal consolidations in both lungs": "C+",
    "There are small bilateral pneumothoraces.": "X+",
    "Old healed right rib fractures.": "F+",
    "A calcified granuloma is seen in the right upper lobe.": "L+",
    "There is a 2.5 cm nodule in the left apex.": "L+",
    "Mild interstitial pulmonary edema persists.": "E+",
    "Biapical pleural thickening.": "T+",
    "Right-sided PICC line terminates in the low SVC.": "D+",
    "Dual lead pacemaker in place": "D+",
    "Hydropneumothorax on the left.": "X+ P+",
    "Patchy airspace disease in the right base.": "O+",
    "Right lower lobe infiltrate consistent with pneumonia.": "O+ N+",
    "Ill-defined nodular opacities in both lungs.": "L+ O+",
    "Mild congestive heart failure.": "E+",
    # denied before
    "No pneumothorax.": "X-",
    "No focal consolidation, pleural effusion, or pneumothorax.": "C- P- X-",
    "No focal consolidation, pleural effusion or pneumothorax is seen.": "C- P- X-",
    "There is no evidence of pneumonia or edema.": "N- E-",
    "Without focal opacity.": "O-",
    "The lungs are free of consolidation.": "C-",
    "Negative for pneumothorax.": "X-",
    "Absence of pleural effusion.": "P-",
    "Neither effusion nor pneumothorax is present.": "P- X-",
    "No acute displaced rib fracture.": "F-",
    "Interval removal of the chest tube.": "D-",
    "No new focal consolidation.": "C-",
    "w/o effusion": "P-",
    "No evident pneumothorax.": "X-",
    "There is no visible pleural effusion.": "P-",
    "There is no longer a pneumothorax.": "X-",
    "Resolution of the right pleural effusion.": "P-",
    "No lung nodule or mass.": "L-",
    "No support devices.": "D-",
    # denied after
    "The left pneumothorax has resolved.": "X-",
    "Pneumothorax is not seen.": "X-",
    "Pneumonia is ruled out.": "N-",
    "A pleural effusion is not identified.": "P-",
    "Consolidation and effusion are not seen.": "C- P-",
    "Pulmonary edema has completely resolved.": "E-",
    "The endotracheal tube has been removed.": "D-",
    "Pneumonia is unlikely.": "N-",
    "Previous pleural effusion is no longer present.": "P-",
    # what only looks like a denial
    "No change in the small pleural effusion.": "P+",
    "No significant interval change in bibasilar atelectasis.": "A+",
    "There has been no increase in the left pneumothorax.": "X+",
    "Not only effusion but also consolidation.": "P+ C+",
    "The pneumothorax has not resolved.": "X+",
    "Cardiomegaly is not significantly changed.": "H+",
    "Nearly resolved left effusion.": "P+",
    "Pneumothorax without change.": "X+",
    "No worsening of the pulmonary edema.": "E+",
    # where a denial ends
    "No pneumothorax but a small pleural effusion.": "X- P+",
    "No pneumothorax; small pleural effusion.": "X- P+",
    "No pneumothorax, small right pleural effusion.": "X- P+",
    "No consolidation, however there is mild edema.": "C- E+",
    "There is no pneumothorax and there is a large effusion.": "X- P+",
    "No pneumothorax, although a left effusion persists.": "X- P+",
    "No consolidation with persistent small effusions.": "C- P+",
    "No effusion. Cardiomegaly.": "P- H+",
    "Small effusion is present and pneumothorax is not seen.": "P+ X-",
    "Cardiomegaly without edema.": "H+ E-",
    "No abnormality other than atelectasis.": "A+",
    "Heart is enlarged, pneumothorax is not seen.": "H+ X-",
    "No focal opacity is seen to suggest pneumonia.": "O- N-",
    "No opacities concerning for pneumonia.": "O- N-",
    "No pneumothorax, although the sensitivity to detect pneumothorax is diminished.": "X-",
    # uncertain
    "Bibasilar opacities may represent atelectasis or pneumonia.": "O+ A? N?",
    "Possible small left pleural effusion.": "P?",
    "Probable cardiomegaly.": "H?",
    "Retrocardiac opacity suggesting consolidation.": "O+ C?",
    "Pneumonia cannot be excluded.": "N?",
    "Cannot exclude a small pneumothorax.": "X?",
    "Right basilar opacity, likely atelectasis.": "O+ A?",
    "Opacity concerning for pneumonia.": "O+ N?",
    "Atelectasis versus consolidation at the left base.": "A? C?",
    "Atelectasis vs. consolidation.": "A? C?",
    "Questionable nodule in the right apex.": "L?",
    "Pneumonia is possible.": "N?",
    "Effusion is likely.": "P?",
    "Pneumonia?": "N?",
    "? rib fracture": "F?",
    "Early pneumonia is not excluded.": "N?",
    "Opacity could reflect atelectasis, but infection is not excluded.": "O+ A? N?",
    "Pneumonia should be considered.": "N?",
    "Borderline cardiomegaly.": "H?",
    "Suspected rib fracture.": "F?",
    "Presumed small effusions.": "P?",
    "Opacity is worrisome for malignancy.": "O+ L?",
    "Blunting of the left costophrenic angle.": "P?",
    # heart, mediastinum and lungs
    "The heart size is normal.": "H-",
    "the heart is normal in size .": "H-",
    "Heart size within normal limits.": "H-",
    "The cardiac silhouette is mildly enlarged.": "H+",
    "Enlargement of the cardiac silhouette.": "H+",
    "Mildly enlarged heart.": "H+",
    "The heart is not enlarged.": "H-",
    "Heart size is borderline.": "H?",
    "The heart size and mediastinal contours are within normal limits.": "H- M-",
    "The cardiomediastinal silhouette is unremarkable.": "M-",
    "The mediastinum is widened.": "M+",
    "Heart is enlarged and the mediastinum is normal.": "H+ M-",
    "Normal heart size, mediastinal and hilar contours.": "H- M-",
    "The heart is normal but the aorta is enlarged.": "H-",
    "Heart size stable, aorta enlarged.": "",
    "Stable heart size.": "",
    "Heart size is difficult to assess.": "",
    "The lungs are clear.": "O- C-",
    "Lungs are clear of consolidation, effusion or pneumothorax.": "O- C- P- X-",
    "The lungs are otherwise clear.": "O- C-",
    "Lung volumes are normal.": "",
    "Costophrenic angles are sharp.": "P-",
    "Pulmonary vasculature is engorged.": "E+",
    "Prominent interstitial markings.": "O+",
    "Interstitial markings are normal.": "O-",
    "Mild cardiomegaly and widened mediastinum are stable.": "H+ M+",
    "Cardiac and mediastinal silhouettes are stably enlarged.": "H+ M+",
    # words that hold another word, or mean something else
    "Small pericardial effusion.": "",
    "No mass effect.": "",
    "Massive left pleural effusion.": "P+",
    "Linear plate-like atelectasis.": "A+",
    "Subcutaneous edema of the chest wall.": "",
    "Degenerative changes of the thoracic spine.": "",
    "The bones are osteopenic with low bone density.": "",
    "The aortic valve calcifications are unchanged.": "",
    "Transverse lines of the skin.": "",
    "Evaluation for pneumothorax is limited.": "",
    # noise
    "no   PLEURAL\n effusion": "P-",
    "XXXX effusion, no XXXX consolidation.": "P+ C-",
    "Compared to ___, the effusion has resolved.": "P-",
    "there is no focal air - space opacity .": "O-",
    "chest x - ray : no pneumothorax , no effusion .": "X- P-",
    "ET tube ends 5.5 cm above the carina. Ground-glass opacities.": "D+ O+",
    "1. No pneumothorax 2. Left effusion.": "X- P+",
    "The patient\u2019s effusion isn\u2019t seen.": "P-",
    # longer and mixed
    "There are no pleural effusions or pneumothoraces.": "P- X-",
    "No evidence of acute fracture, pneumothorax or pleural effusion.": "F- X- P-",
    "Lungs are clear bilaterally without evidence of focal infiltrate, effusion, or pneumothorax.": "O- C- P- X-",
    "Low lung volumes with bibasilar atelectasis; no definite consolidation.": "A+ C-",
    "Interval resolution of the previously seen right lower lobe pneumonia.": "N-",
    "No acute cardiopulmonary abnormality.": "",
    "Stable cardiomegaly with mild vascular congestion.": "H+ E+",
    "There is no large pleural effusion, though a small effusion cannot be excluded.": "P?",
    "The right costophrenic angle is blunted, which may represent a small effusion.": "P?",
    "No pleural effusion is seen, and there is no pneumothorax.": "P- X-",
    "Opacity in the left lower lobe could be due to pneumonia, atelectasis, or aspiration.": "O+ N? A?",
    "Worsening bilateral opacities, edema versus pneumonia.": "O+ E? N?",
    "Lines and tubes are in standard position.": "D+",
    "No pneumothorax after chest tube removal.": "X- D+",
    "Sternotomy wires are intact.": "D+",
    "Cardiac silhouette is top normal in size.": "H-",
    "The heart is at the upper limits of normal in size.": "H-",
    "Heart size is enlarged but stable.": "H+",
    "There is mild enlargement of the cardiac silhouette and no pulmonary edema.": "H+ E-",
    "Mediastinal contours are normal. No hilar adenopathy.": "M-",
    "Pulmonary vascularity is within normal limits.": "E-",
    "There is no pulmonary vascular congestion or pleural effusion.": "E- P-",
    "The previously described nodule is not visualized.": "L-",
    "Increasing left pleural effusion, now moderate.": "P+",
    "Left-sided effusion has decreased and pneumothorax has resolved.": "P+ X-",
    "Persistent small left apical pneumothorax, not significantly changed.": "X+",
    "Compression fracture of T8, age indeterminate.": "F+",
    "Right rib fractures, some of which may be acute.": "F+",
    "No radiographic evidence for pneumonia.": "N-",
    "The lungs show no consolidation and no effusion.": "C- P-",
    "Findings are most consistent with pulmonary edema, but superimposed infection is possible.": "E+ N?",
    "Findings suggest mild CHF.": "E?",
    "Clear lungs. Normal heart.": "O- C- H-",
    "Calcified mediastinal lymph nodes.": "",
    "Elevation of the right hemidiaphragm with adjacent atelectasis.": "A+",
    "The lungs are hyperinflated but clear.": "O- C-",
    "Bilateral hilar enlargement.": "",
    "Blunting of the costophrenic angles is not seen.": "P-",
    "If clinical concern for rib fracture persists, dedicated views are recommended.": "F?",
    "Rule out pneumonia.": "N?",
    "Right pleural effusion has almost completely resolved.": "P+",
    "Both lungs are well expanded and clear with no pleural effusion.": "O- C- P-",
    "The heart is not enlarged and the lungs are clear.": "H- O- C-",
    "Small bilateral effusions, left greater than right, with associated atelectasis.": "P+ A+",
    "Left retrocardiac opacity likely represents atelectasis, although pneumonia cannot be excluded.": "O+ A? N?",
    "There is no consolidation, effusion, pneumothorax, or edema.": "C- P- X- E-",
    "Spiculated mass in the right upper lobe is suspicious for malignancy.": "L+",
    "No focal airspace disease.": "O-",
    "Mild degenerative changes without acute osseous abnormality.": "",
    "Interstitial edema has improved, now mild.": "E+",
    "Tracheostomy tube and left subclavian catheter are unchanged.": "D+",
    "Pleural thickening without effusion.": "T+ P-",
    "Reticular opacities compatible with fibrosis.": "O+",
    "No obvious rib fracture is identified.": "F-",
    "There is suggestion of a small right effusion.": "P?",
    "Heart size is normal to mildly enlarged.": "H?",
    "Cardiomegaly is absent.": "H-",
    "Perihilar haziness may be seen with early edema.": "O+ E?",
    "Residual contrast within the colon.": "",
    "no pleural effusions . no pneumothoraces . heart size and mediastinal contours normal .": "P- X- H- M-",
    "Bibasilar airspace opacities reflect atelectasis and not pneumonia.": "O+ A+ N-",
    "There is minimal if any pleural effusion.": "P?",
    "Substantial consolidation did not clear after insertion of the drainage tube.": "C+ D+",
    "Interstitial abnormality with or without superimposed edema.": "O+ E?",
    "No effusion or pneumothorax, pleural drain in place.": "P- X- D+",
    "No interval significant increase in the effusion.": "P+",
    "No pneumothorax is seen, small effusion.": "X- P+",
    "No effusion or consolidation, pneumothorax or edema.": "P- C- X- E-",
    "Questionable catheter fragment over the left chest.": "D?",
    "No pleural thickening.": "T-",
    "No atelectasis.": "A-",
    "Possible widening of the mediastinum.": "M?",
    "Possible right basilar opacity.": "O?",
    "Probable apical pleural thickening.": "T?",
    # several mentions of one observation
    "No right pneumothorax. Small left pneumothorax.": "X+",
    "Possible pneumonia. No pneumonia on the left.": "N?",
    "Possible effusion. There is an effusion.": "P+",
}


def expected(said: str) -> dict[str, str]:
    return {SHORT[part[0]]: STATUS[part[1]] for part in said.split()}


@pytest.mark.parametrize("sentence", SAID)
def test_a_sentence_says_what_a_reader_reads(sentence):
    named = {name: status for name, status in label_report(sentence).items() if status != "not named"}
    named.pop(NO_FINDING, None)
    assert named == expected(SAID[sentence])


def test_every_observation_is_seen_in_three_states():
    statuses = Counter(part for said in SAID.values() for part in said.split())
    assert not [name + mark for name in SHORT for mark in STATUS if name + mark not in statuses]


def test_no_phrase_is_two_cues():
    lexicon, _ = _rules()
    cues = json.loads(FILE.read_text(encoding="utf-8"))["cues"]
    kinds: dict[str, set[str]] = {}
    for cue, patterns in cues.items():
        for phrase in (phrase for pattern in patterns for phrase in expanded(pattern)):
            kinds.setdefault(lexicon.canonical(phrase), set()).add(cue)
    assert not {phrase: found for phrase, found in kinds.items() if len(found) > 1}


def test_no_finding_is_what_is_left():
    assert label_report("The lungs are clear. A pacemaker is in place.")[NO_FINDING] == "present"
    assert label_report("No acute cardiopulmonary abnormality.")[NO_FINDING] == "present"
    for report in ("Possible pneumonia.", "Mild cardiomegaly. The lungs are clear."):
        assert label_report(report)[NO_FINDING] == "not named"
    assert label_report("The heart is not normal in size. The lungs are not clear.")[NO_FINDING] == "not named"
    for empty in ("", " \n", "___ .", "12."):
        assert set(label_report(empty).values()) == {"not named"}
    assert list(label_report("x")) == list(OBSERVATIONS) and len(OBSERVATIONS) == 14


@pytest.mark.parametrize(
    "report",
    [
        "INDICATION: Pneumonia. Effusion.\n\nCOMPARISON: Edema in ___.\n\nFINDINGS: Cardiomegaly.",
        "indication : pneumonia . effusion . comparison : edema in ___ . findings : cardiomegaly .",
        "HISTORY: pneumonia,\n effusion.\n\n TECHNIQUE: Portable, for edema.\nIMPRESSION:\n Cardiomegaly.",
        "Reason for exam: pneumonia? effusion and edema\n\nCardiomegaly.",
        "INDICATION: pneumonia, edema, effusion. Cardiomegaly.",
        "INDICATION: pneumonia. Effusion. Edema.\nCHEST, PA AND LATERAL: Cardiomegaly.",
        "EXAM: CHEST 2 VIEWS\nCardiomegaly. Lungs are clear.",
    ],
)
def test_reasons_and_methods_are_no_findings(report):
    said = {name for name, status in label_report(report).items() if status == "present"}
    assert said == {"Cardiomegaly"}
    assert "pneumonia" not in findings_section(report).lower()
    assert findings_section("No heading: no change.") == "No heading: no change."


def test_scores_equal_scikit_learns():
    rng = np.random.default_rng(0)
    sentences = list(SAID)
    generated, references = ([" ".join(rng.choice(sentences, 3)) for _ in range(300)] for _ in range(2))
    scores = observation_scores(generated, references)
    results, targets = positives(generated), positives(references)
    for names in (OBSERVATIONS, FIVE):
        columns = [OBSERVATIONS.index(name) for name in names]
        first, second = results[:, columns], targets[:, columns]
        either = (first | second).any(1)
        named = (first | second).any(0)
        for kind, average, keep in (
            ("micro", "micro", slice(None)),
            ("macro", "macro", slice(None)),
            ("example", "samples", either),
        ):
            expected_score = f1_score(second[keep][:, named], first[keep][:, named], average=average, zero_division=0)
            assert scores[f"chexpert_f1_{len(names)}_{kind}"] == pytest.approx(expected_score)


def test_scores_of_equal_of_opposite_and_of_nothing():
    report = "Cardiomegaly. Possible pneumonia. No effusion."
    assert set(observation_scores([report], [report]).values()) == {1.0}
    scores = observation_scores(["Cardiomegaly."], ["Pneumonia."])
    assert scores["chexpert_f1_14_micro"] == scores["chexpert_f1_14_macro"] == scores["chexpert_f1_14_example"] == 0.0
    normal = observation_scores(["The lungs are clear."], ["No effusion."])
    assert normal["chexpert_f1_14_micro"] == 1.0
    assert all(np.isnan(normal[f"chexpert_f1_5_{kind}"]) for kind in ("micro", "macro", "example"))
    # uncertain counts as present; absent and not named are one
    assert observation_scores(["Possible edema."], ["Edema. No effusion."])["chexpert_f1_5_micro"] == 1.0
    with pytest.raises(ValueError, match="1 generated for 2 references"):
        observation_scores(["a"], ["a", "b"])
    with pytest.raises(ValueError, match="0 generated for 0 references"):
        observation_scores([], [])


@pytest.mark.parametrize(
    "piece",
    ["no ", "a", "no effusion, ", "heart ", "\n ", "history: a\n", "\nA", "normal heart or ", "clinical ", "."],
)
def test_cost_is_linear_in_the_length(piece):
    label_report("")  # the phrases are read

    def seconds(length):
        text = piece * (length // len(piece))
        start = time.process_time()
        label_report(text)
        return time.process_time() - start

    assert seconds(400_000) < 10 * seconds(100_000) + 0.5


def test_what_follows_does_not_weaken_again_and_again():
    start = time.process_time()
    label_report("effusion " * 20_000 + "likely, " * 20_000 + "not excluded " * 20_000)
    assert time.process_time() - start < 5
