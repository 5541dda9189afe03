"""Backbones of transformers, made at random, saved to a folder and read again, as one from the hub would be."""

import pytest
import torch
from transformers import AutoBackbone, BertConfig, ConvNextConfig, Dinov2Config, SwinConfig

from akessfa.network import Segmenter
from common.nn.hub_backbone import HuggingFaceBackbone
from common.text.encoders import TransformerTextEncoder

CONFIGS = {
    "convnext": ConvNextConfig(depths=[1, 1, 1, 1], hidden_sizes=[8, 16, 24, 32]),
    "swin": SwinConfig(embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2], window_size=4, image_size=64),
    "dinov2": Dinov2Config(hidden_size=16, num_hidden_layers=8, num_attention_heads=2, image_size=56, patch_size=14),
}


@pytest.fixture(params=CONFIGS)
def folder(request, tmp_path):
    torch.manual_seed(0)
    AutoBackbone.from_config(CONFIGS[request.param]).save_pretrained(tmp_path)
    return str(tmp_path)


def test_four_strides(folder):
    network = HuggingFaceBackbone(weights=folder).eval()
    with torch.no_grad():
        features = network(torch.rand(2, 1, 64, 96))
    assert [tuple(f.shape[2:]) for f in features] == [(16, 24), (8, 12), (4, 6), (2, 3)]
    assert [f.shape[1] for f in features] == network.channels


def test_what_was_saved_is_what_is_read(folder):
    first, second = (HuggingFaceBackbone(weights=folder).eval() for _ in range(2))
    image = torch.rand(1, 1, 64, 64)
    with torch.no_grad():
        for one, other in zip(first(image), second(image), strict=True):
            torch.testing.assert_close(one, other)


def test_grey_equals_three_equal_channels_standardised_or_not(folder):
    grey = torch.rand(1, 1, 64, 64)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    colour = (grey.expand(-1, 3, -1, -1) - mean[:, None, None]) / std[:, None, None]
    wanted = HuggingFaceBackbone(weights=folder, in_channels=3, colour=True, standardised=True).eval()
    plain = HuggingFaceBackbone(weights=folder).eval()
    standardised = HuggingFaceBackbone(weights=folder, standardised=True).eval()
    with torch.no_grad():
        for a, b, c in zip(wanted(colour), plain(grey), standardised((grey - mean.mean()) / std.mean()), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
            torch.testing.assert_close(a, c, rtol=1e-4, atol=1e-5)


def test_gradients_reach_the_first_layer(folder):
    network = HuggingFaceBackbone(weights=folder).train()
    sum(features.square().mean() for features in network(torch.rand(2, 1, 64, 64))).backward()
    first = next(
        parameter
        for name, parameter in network.named_parameters()
        if "projection.weight" in name or "patch_embeddings.weight" in name
    )
    assert first.grad.abs().sum() > 0


def test_a_model_that_is_no_backbone_is_refused(tmp_path):
    BertConfig(hidden_size=8, num_attention_heads=1).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="'bert', which transformers has no backbone of"):
        HuggingFaceBackbone(weights=str(tmp_path))


def test_a_network_trains_on_it(folder):
    text = TransformerTextEncoder(vocab_size=9, width=8, layers=1, heads=1)
    backbone = HuggingFaceBackbone(weights=folder, in_channels=3)
    network = Segmenter(backbone=backbone, text_encoder=text, decoder_width=8)
    ids = torch.tensor([[2, 5, 6, 3]])
    ones = torch.ones_like(ids)
    logits = network(torch.rand(1, 1, 64, 64), ids, ones, ones, keep=torch.ones(1, 1, 4)).logits
    logits.square().mean().backward()
    assert logits.shape == (1, 1, 64, 64) and all(
        parameter.grad is None or parameter.grad.isfinite().all() for parameter in network.parameters()
    )


def test_refusals(folder):
    with pytest.raises(ValueError, match="in_channels: 2"):
        HuggingFaceBackbone(weights=folder, in_channels=2, colour=True)
    with pytest.raises(ValueError, match="cuts its encoder"):
        HuggingFaceBackbone(weights=folder).stages()
