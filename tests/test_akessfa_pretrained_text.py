"""``pretrained_text.json``: a Hugging Face encoder and its tokenizer, from a folder, inside the bundle's configs."""

from pathlib import Path

import torch
from monai.bundle import ConfigParser
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from common.transforms.reports import TokenizeReportd

CONFIGS = Path(__file__).resolve().parents[1] / "bundles" / "akessfa" / "configs"


def save_tiny_bert(folder):
    vocabulary = {"[PAD]": 0, "a": 1, "left": 2, "[CLS]": 3, "[SEP]": 4, "[UNK]": 5, "nodule": 6}
    backend = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    backend.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 3), ("[SEP]", 4)]
    )
    names = {"pad_token": "[PAD]", "unk_token": "[UNK]", "cls_token": "[CLS]", "sep_token": "[SEP]"}
    PreTrainedTokenizerFast(tokenizer_object=backend, **names).save_pretrained(folder)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    BertModel(BertConfig(vocab_size=7, **sizes), add_pooling_layer=False).save_pretrained(folder)


def test_the_encoder_its_tokenizer_and_its_special_tokens_come_from_the_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(CONFIGS.parents[2])
    save_tiny_bert(tmp_path)
    parser = ConfigParser(
        ConfigParser.load_config_files([str(CONFIGS / "inference.json"), str(CONFIGS / "pretrained_text.json")])
    )
    parser["text_source"], parser["network_def#segmenter#backbone#width_factor"] = str(tmp_path), 0.25
    network, tokenizer = parser.get_parsed_content("network_def").eval(), parser.get_parsed_content("tokenizer")
    assert not any(p.requires_grad for p in network.segmenter.text_encoder.encoder.parameters())
    data = TokenizeReportd(tokenizer, max_length=8)({"report": "a left nodule"})
    text = [data[key][None] for key in ("input_ids", "attention_mask", "sentence_ids")]
    assert network.segmenter.is_word(*text[:2])[0].tolist() == [0, 1, 1, 1, 0, 0, 0, 0]
    image = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        explanation = network.explain(image, *text)
        scripted = torch.jit.script(network).explain(image, *text)
    assert (explanation.keywords[0, [0, 4]] == 0).all() and (explanation.keywords[0, 1:4] > 0).all()
    torch.testing.assert_close(scripted.keywords, explanation.keywords)
