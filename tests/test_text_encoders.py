import pytest
import torch
from transformers import (
    AutoModel,
    BertConfig,
    BertModel,
    CLIPTextConfig,
    CLIPTextModel,
    DistilBertConfig,
    ElectraConfig,
    RobertaConfig,
    RobertaModel,
)

from common.text.encoders import (
    TransformerTextEncoder,
    bert_text_encoder,
    clip_text_encoder,
    sentence_attention,
    sentence_positions,
)


def bert() -> BertModel:
    torch.manual_seed(1)
    config = BertConfig(vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32)
    return BertModel(config, add_pooling_layer=False)


def roberta() -> RobertaModel:
    torch.manual_seed(1)
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}
    return RobertaModel(RobertaConfig(vocab_size=50, pad_token_id=1, **sizes), add_pooling_layer=False)


def clip() -> CLIPTextModel:
    torch.manual_seed(1)
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=50, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32,
            eos_token_id=3, bos_token_id=2, pad_token_id=0,
        )
    )  # fmt: skip


def encoders():
    torch.manual_seed(1)
    return {
        "transformer": TransformerTextEncoder(vocab_size=50, width=16, heads=2),
        "bert": bert_text_encoder(weights=bert()),
        "roberta": bert_text_encoder(weights=roberta()),
        "clip": clip_text_encoder(weights=clip()),
    }


NAMES = ["transformer", "bert", "roberta", "clip"]
IDS = torch.tensor([[5, 6, 7, 8, 9, 10, 0, 0], [11, 12, 13, 14, 15, 16, 17, 18]])
MASK = (IDS > 0).long()
SENTENCES = torch.tensor([[0, 0, 0, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, 2, 2, 2]])


@pytest.fixture(params=NAMES)
def encoder(request):
    return encoders()[request.param].eval()


def test_features_have_names_and_shapes(encoder):
    features = encoder(IDS, MASK, SENTENCES)
    assert features.tokens.shape == (2, 8, 16) and features.pooled.shape == (2, 16)
    assert torch.equal(features.mask, MASK > 0) and encoder.width == 16


def test_a_sentence_is_encoded_by_itself(encoder):
    changed = IDS.clone()
    changed[1, 2:5] = torch.tensor([30, 31, 32])
    before, after = encoder(IDS, MASK, SENTENCES).tokens, encoder(changed, MASK, SENTENCES).tokens
    assert torch.equal(before[1, [0, 1, 5, 6, 7]], after[1, [0, 1, 5, 6, 7]])
    assert not torch.allclose(before[1, 2:5], after[1, 2:5])


def test_a_sentence_is_the_same_wherever_it_stands(encoder):
    alone = encoder(IDS[1:, 2:5], MASK[1:, 2:5], torch.zeros(1, 3, dtype=torch.int64)).tokens
    torch.testing.assert_close(encoder(IDS, MASK, SENTENCES).tokens[1:, 2:5], alone)


def test_padding_changes_nothing(encoder):
    wide = torch.nn.functional.pad(IDS, [0, 5]), torch.nn.functional.pad(MASK, [0, 5])
    padded = encoder(*wide, torch.nn.functional.pad(SENTENCES, [0, 5]))
    features = encoder(IDS, MASK, SENTENCES)
    torch.testing.assert_close(padded.tokens[:, :6], features.tokens[:, :6])
    torch.testing.assert_close(padded.pooled, features.pooled)


def test_a_batch_equals_its_items(encoder):
    alone = encoder(IDS[:1, :6], MASK[:1, :6], SENTENCES[:1, :6])
    torch.testing.assert_close(encoder(IDS, MASK, SENTENCES).pooled[:1], alone.pooled)


def test_a_masked_word_reaches_no_feature(encoder):
    keep = MASK.float()
    keep[:, 1] = 0
    changed = IDS.clone()
    changed[:, 1] = 40
    first, second = (encoder(ids, MASK, SENTENCES, keep).tokens for ids in (IDS, changed))
    assert torch.equal(first, second)
    assert not torch.equal(first, encoder(IDS, MASK, SENTENCES, MASK.float()).tokens)


def test_an_empty_report_gives_finite_features(encoder):
    features = encoder(
        torch.zeros(2, 4, dtype=torch.int64), torch.zeros(2, 4, dtype=torch.int64), torch.zeros(2, 4).long()
    )
    assert torch.isfinite(features.tokens).all() and (features.pooled == 0).all()


def test_scripted_equals_eager_at_other_shapes(encoder):
    scripted = torch.jit.script(encoder)
    for ids, sentences in ((IDS, SENTENCES), (IDS[:1, :5], SENTENCES[:1, :5])):
        expected = encoder(ids, (ids > 0).long(), sentences, (ids > 0).float())
        actual = scripted(ids, (ids > 0).long(), sentences, (ids > 0).float())
        for one, other in zip(expected, actual, strict=True):
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize("make", [bert, roberta])
def test_bert_on_one_sentence_equals_transformers(make):
    model = make().eval()
    expected = model(input_ids=IDS[1:], attention_mask=MASK[1:]).last_hidden_state
    actual = bert_text_encoder(weights=model).eval()(IDS[1:], MASK[1:], torch.zeros_like(IDS[1:])).tokens
    torch.testing.assert_close(actual, expected)


def test_clip_on_one_sentence_equals_transformers():
    model = clip().eval()
    ids = torch.tensor([[2, 7, 8, 9, 3]])
    expected = model(input_ids=ids)
    actual = clip_text_encoder(weights=model).eval()(ids, torch.ones_like(ids), torch.zeros_like(ids))
    torch.testing.assert_close(actual.tokens, expected.last_hidden_state)
    torch.testing.assert_close(actual.pooled, expected.pooler_output)


@pytest.mark.parametrize(
    ("kind", "model", "layers"), [(bert_text_encoder, bert, "layer"), (clip_text_encoder, clip, "layers")]
)
def test_frozen_partly_frozen_and_trained(kind, model, layers):
    frozen = kind(weights=model(), trainable_layers=0).train()
    assert not any(p.requires_grad for p in frozen.encoder.parameters()) and not frozen.encoder.training
    partly = kind(weights=model(), trainable_layers=1).train()
    trained = {name for name, p in partly.encoder.named_parameters() if p.requires_grad}
    assert trained and all(f"{layers}.1." in name for name in trained)
    assert all(p.requires_grad for p in kind(weights=model()).parameters())
    with pytest.raises(ValueError, match=r"trainable_layers: 3 is not in 0\.\.2"):
        kind(weights=model(), trainable_layers=3)


def test_weights_load_from_a_folder(tmp_path):
    model = bert().eval()
    model.save_pretrained(tmp_path)
    loaded = bert_text_encoder(weights=str(tmp_path)).eval()
    expected = bert_text_encoder(weights=model).eval()(IDS, MASK, SENTENCES).tokens
    torch.testing.assert_close(loaded(IDS, MASK, SENTENCES).tokens, expected)


@pytest.mark.parametrize("config", [DistilBertConfig(dim=16, n_layers=1, n_heads=2, hidden_dim=16), ElectraConfig(
    embedding_size=8, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16)])  # fmt: skip
def test_a_model_of_another_form_is_refused_in_one_line(config, tmp_path):
    AutoModel.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(
        ValueError, match=rf"weights: '{config.model_type}' is the model's type; the types that fit are"
    ):
        bert_text_encoder(weights=str(tmp_path))


def test_positions_and_attention():
    assert sentence_positions(SENTENCES)[1].tolist() == [0, 1, 0, 1, 2, 0, 1, 2]
    allowed = sentence_attention(MASK, SENTENCES)[0, 0]
    assert allowed[0].tolist() == [True] * 3 + [False] * 5
    assert allowed[6].tolist() == [False] * 6 + [True, False]
