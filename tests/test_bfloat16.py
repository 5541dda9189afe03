"""Under bfloat16 autocast: what tells close numbers apart is computed with all bits of float32."""

import json
from pathlib import Path

import pytest
import torch
from d2rnet.report.alignment import Alignment
from hfcn.network import HFCN

from common.engine import distributed
from common.nn.attention import SampleLayerNorm, matmul_in_float32
from common.nn.fusion import PixelWordAttention
from common.nn.report_decoder import ReportDecoder

CONFIGS = (Path(__file__).resolve().parents[1] / "bundles").glob("*/configs/*.json")
AUTOCAST = {"device_type": "cpu", "dtype": torch.bfloat16}


def test_the_deviation_of_a_norm_has_all_bits():
    norm = SampleLayerNorm(512)
    x = 20 + torch.rand(4, 512)
    coarse = norm(x.bfloat16())
    with torch.autocast(**AUTOCAST):
        assert torch.equal(norm(x.bfloat16()), coarse)
    torch.testing.assert_close(coarse, norm(x.bfloat16().float()))
    assert norm.half()(x.half()).dtype == torch.float16


def test_log_probabilities_of_a_vocabulary_sum_to_one():
    decoder = ReportDecoder(vocab_size=3000, dim=32, hidden=32, heads=4, layers=1).eval()
    ids, memory = torch.randint(4, 3000, (2, 7)), torch.randn(2, 5, 32)
    with torch.no_grad(), torch.autocast(**AUTOCAST):
        log_probs = decoder(ids, memory)
        step, _ = decoder.step(ids[:, :1], 0, decoder.start(memory, None, 1))
    for values in (log_probs, step):
        assert values.dtype == torch.float32
        torch.testing.assert_close(values.exp().sum(-1), torch.ones(values.shape[:-1]), atol=1e-5, rtol=0)


def test_class_probabilities_sum_to_one():
    network = HFCN(depth=18, width=8).eval()
    with torch.no_grad(), torch.autocast(**AUTOCAST):
        branches = network.branches(torch.rand(2, 1, 64, 64))
    for values in (branches.whole, branches.crops):
        torch.testing.assert_close(values.exp().sum(-1), torch.ones(values.shape[:-1]), atol=1e-6, rtol=0)


def test_products_of_scores_have_all_bits():
    a, b = torch.randn(3, 64), torch.randn(64, 3)
    with torch.autocast(**AUTOCAST):
        scores = matmul_in_float32(a, b)
    torch.testing.assert_close(scores, a @ b, atol=1e-6, rtol=1e-6)


def test_attention_of_pixels_tells_like_words_apart():
    attend = PixelWordAttention(channels=16, text_dim=8, dim=16)
    features, words, keep = torch.randn(1, 16, 4, 4), torch.randn(1, 5, 8), torch.ones(1, 5)
    with torch.no_grad():
        expected = attend(features, words, keep)[1]
        with torch.autocast(**AUTOCAST):
            attention = attend(features, words, keep)[1]
    assert attention.dtype == torch.float32
    assert (attention - expected).abs().max() < 0.02  # keys and queries have 8 bits, their products all


class Encoder(torch.nn.Module):
    width = 8

    def forward(self, input_ids, attention_mask, sentence_ids):
        from types import SimpleNamespace

        return SimpleNamespace(tokens=torch.nn.functional.one_hot(input_ids, 8).float())


@pytest.mark.parametrize("kind", ["global", "local"])
def test_alignment_is_that_of_float32(kind):
    torch.manual_seed(1)
    alignment = Alignment(Encoder(), width=8).eval()
    patches, regions = torch.randn(4, 6, 8), torch.randn(4, 3, 8)
    ids = torch.randint(0, 8, (4, 5))
    text = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "sentence_ids": torch.zeros_like(ids)}
    parts = patches, torch.ones(4, 6, dtype=torch.bool), regions, torch.ones(4, 3, dtype=torch.bool)
    alignment.project = torch.nn.Identity()
    expected = alignment(*parts, text)[kind]
    with torch.autocast(**AUTOCAST):
        assert alignment(*parts, text)[kind] == pytest.approx(float(expected), abs=1e-5)


@pytest.mark.parametrize(
    ("known", "fast"), [({"avx2": True}, False), ({"avx512_bf16": True}, True), ({"bf16": 1}, True)]
)
def test_a_cpu_that_would_emulate_bfloat16_trains_in_float32(monkeypatch, known, fast):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: known)
    assert distributed.bfloat16_is_fast("cpu") == fast


@pytest.mark.parametrize("config", sorted(CONFIGS), ids=lambda path: f"{path.parents[1].name}/{path.stem}")
def test_no_config_takes_bfloat16_whatever_the_machine(config):
    assert json.loads(config.read_text()).get("amp") is not True
