"""What reports say of the entities that they name, sentence by sentence, in both languages."""

import math

import pytest

from common.metrics.entities import mentions, read_entities
from common.metrics.entity_status import contradictions, status_scores, statuses

P, A, U = "present", "absent", "uncertain"
SENTENCES = [
    ("thyroid", "A hypoechoic nodule is seen in the left lobe.", {"nodule": P, "echogenicity": P, "left lobe": P}),
    ("thyroid", "No nodule is seen in the right lobe.", {"nodule": A, "right lobe": P}),
    ("thyroid", "There is no evidence of a mass or enlarged lymph nodes.", {"lesion": A, "lymph node": A}),
    ("thyroid", "Lymph nodes are not seen.", {"lymph node": A}),
    ("thyroid", "A possible nodule in the thyroid.", {"nodule": U, "thyroid gland": P}),
    ("thyroid", "A nodule is seen. No other nodules.", {"nodule": P}),
    ("thyroid", "The nodule has no internal flow on Doppler.", {"nodule": P, "CDFI": A}),
    ("breast", "Without axillary lymph nodes. A mass in the breast.", {"lymph node": A, "breast": P, "tumour": P}),
    ("liver", "The bile duct is not dilated.", {"bile duct": P}),
    ("liver", "The liver is normal; no lesion, no nodule.", {"liver": P, "lesion": A, "nodule": A}),
    ("chest", "No pleural effusion or pneumothorax.", {"pleural effusion": A, "pneumothorax": A}),
    ("chest", "Small effusion; pneumothorax has resolved.", {"pleural effusion": P, "pneumothorax": A}),
    ("thyroid", "腺体内未见明显占位性病变", {"glandular tissue": P, "lesion": A}),
    ("thyroid", "双侧颈部未见明显肿大淋巴结。", {"lymph node": A}),
    ("thyroid", "右叶上极可见一混合回声结节，边界清晰，形态规整", {"right lobe": P, "echogenicity": P, "nodule": P,
     "border": P, "shape": P}),
    ("thyroid", "CDFI示结节内未探及血流信号", {"CDFI": A, "nodule": P}),
    ("thyroid", "CDFI示其内均未记录到血流信号", {"CDFI": A}),
    ("thyroid", "左叶可见一无回声结节", {"left lobe": P, "echogenicity": P, "nodule": P}),
    ("thyroid", "左叶结节，不除外恶性", {"left lobe": P, "nodule": P}),
    ("thyroid", "左叶可疑结节", {"left lobe": P, "nodule": U}),
    ("thyroid", "占位待排", {"lesion": U}),
    ("thyroid", "左叶见结节，右叶未见结节", {"left lobe": P, "nodule": P, "right lobe": P}),
    ("thyroid", "未见结节及肿大淋巴结", {"nodule": A, "lymph node": A}),
    ("breast", "双侧乳腺未见导管扩张，无肿块", {"breast": P, "duct": P, "tumour": A}),
    ("breast", "乳头后方未探及腺体样结构", {"gland": P}),
    ("liver", "肝内胆管无扩张，胰腺内未见明确占位性病变", {"liver": P, "bile duct": P, "intrahepatic duct": P,
     "pancreas": P, "lesion": A}),
    ("thyroid", "No thyroid nodule is seen.", {"thyroid gland": P, "nodule": A}),
    ("breast", "No breast mass.", {"breast": P, "tumour": A}),
    ("liver", "No focal hepatic lesion. No nodule in the liver.", {"liver": P, "lesion": A, "nodule": A}),
    ("chest", "Cardiomegaly. No mediastinal nodule.", {"heart": P, "mediastinum": P, "nodule": A}),
    ("chest", "The cardiomediastinal silhouette is normal.", {"heart": P, "mediastinum": P}),
    ("chest", "Pneumothorax: none. Pleural effusion: Absent.", {"pneumothorax": A, "pleural effusion": A}),
    ("chest", "No rib fracture, no acute bony abnormality.", {"bone": P}),
    ("chest", "The chest tube has been removed. A catheter is in place.", {"device": P}),
    ("thyroid", "未见甲状腺结节", {"thyroid gland": P, "nodule": A}),
    ("thyroid", "右叶结节消失", {"right lobe": P, "nodule": A}),
    ("thyroid", "未除外占位", {"lesion": U}),
    ("thyroid", "无痛性结节", {"nodule": P}),
    ("thyroid", "无明显诱因发现结节", {"nodule": P}),
    ("chest", "未见气胸、但见少量积液", {"pneumothorax": A, "pleural effusion": P}),
    ("chest", "右肺未见结节而左肺见结节", {"nodule": P, "lung": P}),
    ("chest", "导管已拔除", {"device": A}),
    ("thyroid", "", {}),
]  # fmt: skip


@pytest.mark.parametrize(("organ", "text", "expected"), SENTENCES)
def test_what_a_sentence_says(organ, text, expected):
    said = statuses(text, read_entities(organ))
    assert {name: said.get(name) for name in expected} == expected
    assert not expected or set(said) - set(expected) <= {"axilla", "thyroid gland", "breast", "CDFI", "bile duct"}


@pytest.mark.parametrize("organ", ["thyroid", "breast", "liver", "chest"])
def test_what_is_named_has_a_status_and_nothing_else(organ):
    """Each word of each entity, alone, names in both measures the same entities."""
    entities = read_entities(organ)
    for word in (word for words in entities.values() for word in words):
        named = {name for name, hit in zip(entities, mentions([f"{word} "], entities)[0], strict=True) if hit}
        assert set(statuses(f"{word} ", entities)) == named, word


def test_agreement_counts_the_status_and_contradictions():
    thyroid = read_entities("thyroid")
    reference = "A nodule in the left lobe. No lymph nodes."
    assert status_scores([reference], [reference], thyroid) == {"entity_status_f1": 1.0, "entity_contradictions": 0.0}
    denied = status_scores(["No nodule in the left lobe."] * 2, [reference, "The shape is regular."], thyroid)
    assert denied == {"entity_status_f1": 0.25, "entity_contradictions": 0.5}
    half = status_scores(["A nodule. Lymph nodes are seen."], ["A nodule. No lymph nodes."], thyroid)
    assert half == {"entity_status_f1": 0.5, "entity_contradictions": 1.0}
    assert math.isnan(status_scores(["x"], ["y"], thyroid)["entity_status_f1"])
    assert contradictions({"a": P, "b": A, "c": U}, {"a": A, "b": P, "c": P}) == ["a", "b"]
    with pytest.raises(ValueError, match="1 generated for 2 references"):
        status_scores(["x"], ["y", "z"], thyroid)
