"""Packed linear layers: the same numbers, the same reports, nothing packed that cannot be."""

import copy

import pytest
import torch
from torch import nn

from common.nn.beam_search import BeamSearch
from common.nn.cpu_layout import CPULayout, PackedLinear, can_pack, pack_linear_layers
from common.nn.report_decoder import ReportDecoder


@pytest.mark.parametrize("shape", [(1, 24), (6, 24), (2, 5, 24)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_packed_layer_gives_the_same(shape, bias):
    layer, x = nn.Linear(24, 40, bias=bias), torch.randn(shape)
    torch.testing.assert_close(PackedLinear(layer)(x), layer(x).detach(), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("slots", [0, 3])
@pytest.mark.parametrize("beams", [1, 3])
def test_reports_are_the_same(slots, beams):
    decoder = ReportDecoder(vocab_size=50, dim=32, hidden=32, heads=4, layers=2, slots=slots, slot_heads=4)
    search = BeamSearch(
        decoder, beams=beams, max_length=20, min_length=5, begin_id=2, end_id=3, pad_id=0, unknown_id=1
    ).eval()
    memory = torch.randn(2, 7, 32)
    packed = copy.deepcopy(search)
    pack_linear_layers(packed, larger_than=0)
    kinds = {type(module) for module in packed.modules()}
    assert PackedLinear in kinds and nn.Linear not in kinds
    found, wanted = packed(memory), search(memory)
    assert torch.equal(found.ids, wanted.ids)
    torch.testing.assert_close(found.log_probs, wanted.log_probs, atol=1e-4, rtol=1e-4)
    ids = wanted.ids[:, 0]
    there = torch.ones(2, 7, dtype=torch.bool)
    torch.testing.assert_close(
        packed.decoder.attention(ids, memory, there), search.decoder.attention(ids, memory, there), atol=1e-5, rtol=1e-4
    )


def test_networks_write_the_same_or_it_was_a_near_tie(count=12):
    options = {"max_length": 15, "begin_id": 2, "end_id": 3, "pad_id": 0, "unknown_id": 1}
    equal = 0
    for seed in range(count):
        torch.manual_seed(seed)
        decoder = ReportDecoder(vocab_size=400, dim=64, hidden=128, heads=4, layers=2, slots=seed % 2 * 3, slot_heads=4)
        search = BeamSearch(decoder, beams=1 + seed % 3, **options).eval()
        memory = torch.randn(2, 9, 64)
        packed = copy.deepcopy(search)
        pack_linear_layers(packed, larger_than=0)
        found, expected = packed(memory), search(memory)
        for row in range(2):
            length = min(found.ids.shape[2], expected.ids.shape[2])
            same = torch.equal(found.ids[row, 0, :length], expected.ids[row, 0, :length])
            equal += same
            assert same or abs(float(found.scores[row, 0] - expected.scores[row, 0])) < 1e-3, seed
    assert equal >= 2 * count - 1


def test_other_types_are_left_alone():
    network = nn.Sequential(nn.Linear(4, 4), nn.ReLU()).to(torch.bfloat16)
    assert not can_pack(network)
    pack_linear_layers(network, larger_than=0)
    assert isinstance(network[0], nn.Linear)


@pytest.mark.parametrize("amp", [True, False])
def test_the_handler_packs_when_the_engine_starts(amp):
    from ignite.engine import Engine

    network, engine = nn.Sequential(nn.Linear(512, 513), nn.Linear(512, 512)), Engine(lambda *_: None)
    CPULayout(linear=network, amp=amp).attach(engine)
    assert isinstance(network[0], nn.Linear)
    engine.run([0], max_epochs=1)
    assert isinstance(network[0], nn.Linear) == amp
    assert isinstance(network[1], nn.Linear)  # its call would cost more than it saves
