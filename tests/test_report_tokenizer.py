import json
import logging

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from common.text.encoding import encode_report, split_sentences
from common.text.tokenizer import HuggingFaceTokenizer, ReportTokenizer, fit_or_load
from common.transforms.reports import TokenizeReportd

ENGLISH = "A hypoechoic nodule, 1.2 x 0.8 cm, is taller-than-wide. No lymph node! Follow-up?"

LONG = ENGLISH + " The nodule is taller-than-wide and hypoechoic."


@pytest.fixture
def tokenizer():
    return ReportTokenizer.fit([ENGLISH])


def test_special_ids_are_distinct_and_fixed(tokenizer):
    ids = tokenizer.backend
    assert [ids.pad_token_id, ids.unk_token_id, ids.bos_token_id, ids.eos_token_id] == [0, 1, 2, 3]
    assert tokenizer.special_ids == [0, 2, 3]


def test_words_numbers_and_hyphens_stay_whole(tokenizer):
    words = tokenizer.words(ENGLISH)
    assert {"1.2", "taller-than-wide", "hypoechoic", "follow-up"} <= set(words)
    assert "A" not in words and "a" in words


def test_placeholders_stay_whole():
    tokenizer = ReportTokenizer.fit(["结节大小约_2DS_ _SCM_，位于_Loc_点"])
    assert {"_2DS_", "_SCM_", "_Loc_"} <= set(tokenizer.words("大小_2DS_ _SCM_,_Loc_"))


def test_chinese_is_segmented_and_a_user_dictionary_wins(tmp_path):
    text = "甲状腺左侧叶探及低回声结节，边界清晰。"
    plain = ReportTokenizer.fit([text])
    assert "甲状腺" in plain.words(text)
    dictionary = tmp_path / "words.txt"
    dictionary.write_text("低回声结节 100 n\n", encoding="utf-8")
    assert "低回声结节" in ReportTokenizer.fit([text], user_dictionary=str(dictionary)).words(text)
    assert plain.decode([token.id for token in plain.encode(text)]).replace(" ", "") == text


def test_unknown_user_dictionary_is_named():
    with pytest.raises(FileNotFoundError, match=r"user_dictionary: no file 'nowhere.txt'"):
        ReportTokenizer.fit(["text"], user_dictionary="nowhere.txt")


def test_vocabulary_is_by_frequency_and_bounded(caplog):
    tokenizer = ReportTokenizer.fit(["b b b a a c", "d"], max_size=6)
    assert len(tokenizer) == 6 and "vocab_size: 6 holds 2 of the 4 words" in caplog.text
    assert [token.id for token in tokenizer.encode("b a c")] == [4, 5, 1]


def test_a_base_keeps_its_ids_and_new_words_follow(tmp_path):
    base = ReportTokenizer.fit(["b b a"])
    base.user_words.append("低回声结节")
    longer = ReportTokenizer.fit(["a c c d", "a"], base=base)
    assert longer.vocabulary == ["b", "a", "c", "d"] and longer.user_words == ["低回声结节"]
    assert longer.encode("b a c")[:2] == base.encode("b a c")[:2]
    base.save(tmp_path / "first" / "new.json")
    again = fit_or_load(
        path=str(tmp_path / "new.json"), cases=[{"report": "d a"}], fit=True, pretrained=str(tmp_path / "first")
    )
    assert again.vocabulary == ReportTokenizer.load(tmp_path / "new.json").vocabulary == ["b", "a", "d"]
    (tmp_path / "model.pt").touch()  # the network of another training
    fit_or_load(path=str(tmp_path / "new.json"), cases=[{"report": "other words"}], fit=True)
    assert again.vocabulary == ReportTokenizer.load(tmp_path / "new.json").vocabulary
    assert again.saver(str(tmp_path / "new.json"))() == [str(tmp_path / "new.json")]
    assert ReportTokenizer.load(tmp_path / "new.json").vocabulary == again.vocabulary


def test_no_words_is_refused():
    with pytest.raises(ValueError, match="no word in any"):
        ReportTokenizer.fit(["", "  "])


def test_spans_point_into_the_text(tokenizer):
    assert [ENGLISH[t.start : t.end].lower() for t in tokenizer.encode(ENGLISH)] == tokenizer.words(ENGLISH)


def test_saved_and_loaded_is_the_same(tmp_path, tokenizer):
    path = tmp_path / "models" / "report_tokenizer.json"
    tokenizer.save(path)
    assert list(path.parent.iterdir()) == [path]
    loaded = ReportTokenizer.load(path)
    assert loaded.encode(ENGLISH) == tokenizer.encode(ENGLISH) and len(loaded) == len(tokenizer)


def test_the_file_of_the_first_version_is_read(tmp_path, tokenizer):
    tokenizer.save(tmp_path / "tokenizer.json")
    assert ReportTokenizer.load(tmp_path / "report_tokenizer.json").encode(ENGLISH) == tokenizer.encode(ENGLISH)


def test_a_missing_or_wrong_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"tokenizer: no file .*none.json.*run train.json"):
        ReportTokenizer.load(tmp_path / "none.json")
    (tmp_path / "x.json").write_text(json.dumps({"a": 1}))
    with pytest.raises(ValueError, match="no saved ReportTokenizer"):
        ReportTokenizer.load(tmp_path / "x.json")


@pytest.mark.parametrize(
    ("report", "count"),
    [("One 1.2 cm. Two.", 2), ("一。二；三", 3), ("no full stop", 1), ("", 0), ("a\n\nb", 2), ("A. B! C? D; e", 5)],
)
def test_sentences(report, count):
    spans = split_sentences(report)
    assert len(spans) == count
    assert "".join(report[a:b] for a, b in spans).strip() == report.replace("\n\n", "\n").strip() or count == 2


def test_transform_pads_and_numbers_sentences(tokenizer):
    data = TokenizeReportd(tokenizer, max_length=40)({"report": ENGLISH, "case": "a"})
    real = int(data["attention_mask"].sum())
    assert data["input_ids"].shape == (40,) and data["input_ids"].dtype == torch.int64
    assert (data["input_ids"][real:] == 0).all() and (data["input_ids"][:real] > 0).all()
    assert data["sentence_ids"][:real].unique().tolist() == [0, 1, 2]
    assert data["case"] == "a"


@pytest.mark.parametrize("report", ["", None])
def test_an_empty_report_has_no_token(tokenizer, report):
    assert TokenizeReportd(tokenizer, max_length=8)({"report": report})["attention_mask"].sum() == 0


def test_a_long_report_is_cut_at_a_sentence_and_warned_once(tokenizer, caplog):
    transform = TokenizeReportd(tokenizer, max_length=20)
    with caplog.at_level(logging.WARNING):
        data = transform({"report": LONG})
        transform({"report": LONG + " No."})
    whole = encode_report(tokenizer, LONG, 100).sentence_ids
    assert int(data["attention_mask"].sum()) == sum(sentence < 3 for sentence in whole) < 20 < len(whole)
    assert sum("cut after" in record.message for record in caplog.records) == 1


def test_a_report_of_one_long_sentence_keeps_its_beginning(tokenizer):
    assert TokenizeReportd(tokenizer, max_length=5)({"report": "nodule " * 50})["attention_mask"].tolist() == [1] * 5


def test_hugging_face_tokenizer_behind_the_same_interface(tmp_path):
    vocabulary = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "nodule": 4, "left": 5}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(tmp_path)
    tokenizer = HuggingFaceTokenizer(str(tmp_path))
    encoded = encode_report(tokenizer, "left nodule. left", 20)
    assert encoded.input_ids == [2, 5, 4, 1, 3, 2, 5, 3]
    assert encoded.sentence_ids == [0, 0, 0, 0, 0, 1, 1, 1]
    assert sorted(tokenizer.special_ids) == [0, 2, 3]
    assert tokenizer.decode([2, 5, 4, 3]) == "left nodule"
