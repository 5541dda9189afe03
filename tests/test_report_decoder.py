"""Report decoder and beam search: equal to the published networks, cache equals none, search equals brute force."""

import itertools

import pytest
import torch
from d2rnet.report.regions import RegionEncoder
from torch import nn

from common.nn.attention import MultiHeadAttention, SampleLayerNorm
from common.nn.beam_search import BeamSearch
from common.nn.published import load_into, renamed
from common.nn.relational_memory import NormModulation, RelationalMemory
from common.nn.report_decoder import MemoryEncoder, ReportDecoder, sinusoids
from tests import published_numbers

BEGIN, END, PAD = 1, 2, 0


@pytest.fixture(scope="module")
def cases():
    return published_numbers.load("layers")["cases"]


def test_layer_norm_equals_the_published(cases):
    case = cases["layer_norm"]
    norm = SampleLayerNorm(16)
    norm.load_state_dict(published_numbers.state_dict(case["entries"]))
    x = published_numbers.noise(case["inputs"]["x"])
    published_numbers.check(norm(x), case["outputs"]["output"])


def own_names(entries, prefix=""):
    """The formula's weights under our names; ``prefix`` makes a part's names those of a whole checkpoint."""
    state = published_numbers.state_dict(entry for entry in entries if entry[2] != "sinusoid")
    return renamed({prefix + name: value for name, value in state.items()}, ())


def test_attention_equals_the_published(cases):
    case = cases["multi_head_attention"]
    attention = MultiHeadAttention(dim=32, heads=4).eval()
    state = own_names(case["entries"], ".")
    attention.load_state_dict({name.removeprefix("."): value for name, value in state.items()})
    query, source = (published_numbers.noise(case["inputs"][name]) for name in ("query", "key_value"))
    visible = torch.ones(2, 1, 1, 9, dtype=torch.bool)
    visible[1, :, :, 6:] = False
    published_numbers.check(attention(query, source, visible), case["outputs"]["cross, keys 6-8 of sample 1 masked"])
    weights = attention.weights(query, source, visible)
    assert weights.shape == (2, 4, 6, 9) and (weights[1, :, :, 6:] == 0).all()
    heads = weights @ attention.split(attention.value(source))
    torch.testing.assert_close(attention.out(heads.transpose(1, 2).flatten(2)), attention(query, source, visible))


def test_relational_memory_equals_the_published(cases):
    case = cases["relational_memory"]
    memory, prefix = RelationalMemory(dim=32, slots=3, heads=4).eval(), "report.decoder.relational.memory."
    state = own_names(case["entries"], "encoder_decoder.model.rm.")
    memory.load_state_dict({name.removeprefix(prefix): value for name, value in state.items()})
    words = published_numbers.noise(case["inputs"]["inputs"])
    published_numbers.check(memory.start(words), case["outputs"]["initial_memory"])
    found, last = memory(words, memory.start(words))
    published_numbers.check(found, case["outputs"]["output (all steps)"])
    torch.testing.assert_close(last.flatten(1), found[:, -1])


def test_memory_conditioned_norm_equals_the_published(cases):
    case = cases["memory_conditioned_layer_norm"]
    norm, modulation = SampleLayerNorm(32), NormModulation(norms=1, inside=96, dim=32)
    place, prefix = "encoder_decoder.model.decoder.layers.0.sublayer.0.norm.", "report.decoder.relational.modulation."
    state = own_names(case["entries"], place)
    modulation.load_state_dict({n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)})
    norm.load_state_dict({n.rpartition(".")[2]: v for n, v in state.items() if not n.startswith(prefix)})
    x, slots = (published_numbers.noise(case["inputs"][name]) for name in ("x", "memory"))
    published_numbers.check(norm(x, modulation(slots)), case["outputs"]["output"])


def test_positions_alternate_sine_and_cosine():
    found = sinusoids(7, 6)
    assert found.shape == (7, 6)
    assert found[3, 2:4].tolist() == pytest.approx(
        [torch.sin(torch.tensor(3 / 10000 ** (2 / 6))).item(), torch.cos(torch.tensor(3 / 10000 ** (2 / 6))).item()]
    )


def make_decoder(vocabulary=12, **options):
    torch.manual_seed(0)
    decoder = ReportDecoder(
        vocab_size=vocabulary, dim=16, hidden=24, heads=4, layers=2, max_length=80, **options
    ).eval()
    for layer in decoder.layers:
        nn.init.normal_(layer.cross_attention.query.weight)  # so that the report depends on the memory
        nn.init.normal_(layer.cross_attention.out.weight)
    nn.init.normal_(decoder.logit.weight)
    return decoder


@pytest.fixture
def memory():
    return torch.randn(3, 7, 16, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("slots", [0, 3])
def test_steps_equal_teacher_forcing(memory, slots):
    decoder = make_decoder(slots=slots, slot_heads=4)
    ids = torch.randint(1, 12, (3, 70), generator=torch.Generator().manual_seed(2))
    visible = torch.ones(3, 7, dtype=torch.bool)
    visible[1, 4:] = False
    with torch.no_grad():
        wanted = decoder(ids, memory, visible)
        state, found = decoder.start(memory, visible, 1), []
        for position in range(70):  # beyond the room of the first allocation
            log_probs, state = decoder.step(ids[:, position, None], position, state)
            found.append(log_probs[:, 0])
    torch.testing.assert_close(torch.stack(found, 1), wanted, atol=1e-4, rtol=1e-5)


def test_padding_and_other_studies_change_nothing(memory):
    decoder = make_decoder()
    ids = torch.tensor([[1, 5, 6, 7], [1, 8, 9, 10], [1, 3, 4, 5]])
    with torch.no_grad():
        wanted = decoder(ids, memory)
        padded = decoder(torch.cat([ids, torch.zeros(3, 3, dtype=torch.int64)], 1), memory)[:, :4]
        more = torch.cat([memory, torch.randn(3, 2, 16)], 1)
        masked = decoder(ids, more, torch.arange(9).expand(3, -1) < 7)
        torch.testing.assert_close(padded, wanted)
        torch.testing.assert_close(masked, wanted)
        torch.testing.assert_close(decoder(ids[1:2], memory[1:2]), wanted[1:2])


@pytest.mark.parametrize("slots", [0, 3])
def test_a_new_decoder_hears_the_memory(slots):
    decoder = ReportDecoder(vocab_size=500, dim=128, hidden=256, heads=4, layers=2, slots=slots, slot_heads=4).eval()
    ids = torch.randint(1, 500, (8, 6))
    with torch.no_grad():
        hidden = decoder.hidden(ids[:1].expand(8, -1), torch.randn(8, 10, 128))
    by_memory, by_words = (
        hidden.std(0).mean(),
        decoder.hidden(ids, torch.randn(1, 10, 128).expand(8, -1, -1)).std(0).mean(),
    )
    assert by_memory > 0.4 * by_words  # 0.06 with torch's default for embeddings


def test_a_later_token_changes_nothing_before_it(memory):
    decoder, ids = make_decoder(), torch.tensor([[1, 5, 6, 7]]).expand(3, -1)
    changed = ids.clone()
    changed[:, 3] = 9
    with torch.no_grad():
        torch.testing.assert_close(decoder(ids, memory)[:, :3], decoder(changed, memory)[:, :3])


def search(decoder, **options):
    return BeamSearch(decoder, begin_id=BEGIN, end_id=END, pad_id=PAD, **options)


def score_of(decoder, memory, tokens):
    ids = torch.tensor([[BEGIN, *tokens]])
    with torch.no_grad():
        log_probs = decoder(ids[:, :-1], memory)[0]
    return float(log_probs.gather(1, ids[0, 1:, None]).sum())


def every_report(vocabulary, length):
    words = [token for token in range(vocabulary) if token not in (PAD, BEGIN, END)]
    for size in range(length):
        for tokens in itertools.product(words, repeat=size):
            yield (*tokens, END)
    yield from itertools.product(words, repeat=length)


def test_a_wide_beam_finds_what_brute_force_finds(memory):
    decoder = make_decoder(vocabulary=7)
    found = search(decoder, beams=80, max_length=3)(memory)
    for study in range(3):
        scored = sorted(
            ((score_of(decoder, memory[study : study + 1], tokens), tokens) for tokens in every_report(7, 3)),
            reverse=True,
        )
        for rank in range(5):
            score, tokens = scored[rank]
            kept = [token for token in tokens if token != END]
            assert found.ids[study, rank].tolist() == kept + [PAD] * (3 - len(kept))
            assert float(found.scores[study, rank]) == pytest.approx(score, abs=1e-4)


def test_one_beam_is_greedy(memory):
    decoder = make_decoder()
    found = search(decoder, max_length=40)(memory)
    for study in range(3):
        ids, total = [BEGIN], 0.0
        for _ in range(40):
            with torch.no_grad():
                log_probs = decoder(torch.tensor([ids]), memory[study : study + 1])[0, -1]
            log_probs[[PAD, BEGIN]] = -torch.inf
            ids.append(int(log_probs.argmax()))
            total += float(log_probs.max())
            if ids[-1] == END:
                break
        kept = [token for token in ids[1:] if token != END]
        assert found.ids[study, 0].tolist() == kept + [PAD] * (40 - len(kept))
        assert float(found.scores[study, 0]) == pytest.approx(total, abs=1e-3)
        assert float(found.log_probs[study].sum()) == pytest.approx(total, abs=1e-3)


@pytest.mark.parametrize(("beams", "bias", "slots"), [(1, 3.0, 0), (3, 2.5, 0), (3, 2.5, 3)])
def test_a_batch_equals_its_studies_alone(memory, beams, bias, slots):
    decoder = make_decoder(slots=slots, slot_heads=4)
    decoder.logit.bias.data[END] += bias  # so that studies end at different lengths
    together = search(decoder, beams=beams, max_length=30)(memory)
    lengths = set()
    for study in range(3):
        alone = search(decoder, beams=beams, max_length=30)(memory[study : study + 1])
        assert torch.equal(together.ids[study], alone.ids[0])
        torch.testing.assert_close(together.scores[study], alone.scores[0], atol=1e-4, rtol=0)
        lengths.add(int((alone.ids[0, 0] != PAD).sum()))
    assert len(lengths) > 1


def test_more_beams_score_no_worse_and_come_best_first(memory):
    decoder = make_decoder()
    greedy, wide = (search(decoder, beams=beams, max_length=12)(memory).scores for beams in (1, 6))
    assert (wide[:, 0] >= greedy[:, 0] - 1e-4).all() and (wide[:, :-1] >= wide[:, 1:]).all()


def test_minimum_length_blocked_ngrams_and_penalty(memory):
    decoder = make_decoder()
    decoder.logit.bias.data[END] += 6
    short = search(decoder, beams=2, max_length=20)(memory).ids
    long = search(decoder, beams=2, max_length=20, min_length=8)(memory).ids
    assert (short[:, 0] != PAD).sum(1).min() < 8 <= (long[:, 0] != PAD).sum(1).min()
    decoder.logit.bias.data[END] -= 12
    ids = search(decoder, beams=2, max_length=30, block_ngram=2)(memory).ids[:, 0].tolist()
    for report in ids:
        pairs = [pair for pair in itertools.pairwise(report) if PAD not in pair]
        assert len(pairs) == len(set(pairs))
    sums, means = (search(decoder, beams=3, max_length=9, length_penalty=p)(memory) for p in (0.0, 1.0))
    torch.testing.assert_close(sums.scores[0, 0] / 9, means.scores[0, 0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("slots", [0, 3])
def test_scripted_search_is_the_same(memory, slots):
    decoder = make_decoder(slots=slots, slot_heads=4)
    decoder.logit.bias.data[END] += 3
    generate = search(decoder, beams=3, max_length=40, min_length=2, block_ngram=3)
    for found, wanted in zip(torch.jit.script(generate)(memory), generate(memory), strict=True):
        torch.testing.assert_close(found, wanted)


def test_impossible_sizes_are_refused():
    with pytest.raises(ValueError, match="min_length: 9 < max_length: 5"):
        search(make_decoder(), max_length=5, min_length=9)
    with pytest.raises(ValueError, match="heads: 3 do not divide the width 16"):
        MultiHeadAttention(dim=16, heads=3)


@pytest.fixture(scope="module", params=["sgf", "r2gen"])
def tiny(cases, request):
    case = cases[f"tiny_{request.param}_decoder"]
    sizes = {"dim": 64, "hidden": 48, "heads": 4, "layers": 2}
    slots = {"slots": 3, "slot_heads": 4} if request.param == "r2gen" else {}
    network = nn.ModuleDict(
        {
            "embed": nn.Sequential(nn.Linear(40, 64)),
            "encoder": MemoryEncoder(**sizes),
            "decoder": ReportDecoder(vocab_size=61, pad_id=0, max_length=128, **sizes, **slots),
        }
    ).eval()
    state = own_names(case["entries"])
    network.load_state_dict({name.removeprefix("report."): value for name, value in state.items()})
    with torch.no_grad():
        patches = published_numbers.noise(case["inputs"]["patches"])
        memory = network["encoder"](network["embed"](patches).relu())
    return case, network["decoder"], memory


def test_tiny_published_decoder_teacher_forced(tiny):
    case, decoder, memory = tiny
    ids = torch.tensor(case["inputs"]["token_ids"])[:, :-1]
    outputs = case["outputs"]
    published_numbers.check(memory, outputs["encoder_memory"])
    published_numbers.check(decoder(ids, memory), outputs["log_probs (teacher forcing)"])


def test_tiny_published_decoder_greedy(tiny):
    case, decoder, memory = tiny
    found = BeamSearch(decoder, begin_id=0, end_id=0, pad_id=0, max_length=24)(memory)
    assert found.ids[:, 0].tolist() == case["outputs"]["greedy"]["ids"]


def test_tiny_published_decoder_beam(tiny):
    case, decoder, memory = tiny
    if "beam" not in case["outputs"]:
        pytest.skip("the published SGF writes without beams")
    found = BeamSearch(decoder, begin_id=0, end_id=0, pad_id=0, max_length=24, beams=3)(memory)
    check_beams(found, case["outputs"]["beam"]["all_beams"])


def check_beams(found, recorded):
    for study, beams in enumerate(recorded):
        for rank, beam in enumerate(beams):
            kept = [token for token in beam["ids"] if token]
            assert [token for token in found.ids[study, rank].tolist() if token] == kept
            assert float(found.scores[study, rank]) == pytest.approx(beam["score"], abs=1e-3)


def test_published_d2r_decoder():
    case = published_numbers.load("d2r_decoder")
    network = nn.ModuleDict(
        {
            "embed": nn.Sequential(nn.Linear(1024, 512)),
            "encoder": MemoryEncoder(),
            "report": BeamSearch(
                ReportDecoder(vocab_size=201, slots=3), begin_id=0, end_id=0, pad_id=0, max_length=40, beams=3
            ),
        }
    ).eval()
    load_into(network, own_names(case["entries"]))
    outputs, ids = case["outputs"], torch.tensor(case["inputs"]["token_ids"])
    with torch.no_grad():
        patches = published_numbers.noise(case["inputs"]["patches"])
        memory = network["encoder"](network["embed"](patches).relu())
        published_numbers.check(memory, outputs["encoder_memory"])
        forced = outputs["log_probs (teacher forcing; position k predicts token k+1)"]
        published_numbers.check(network["report"].decoder(ids[:, :-1], memory), forced)
        check_beams(network["report"](memory), outputs["beam"]["all_beams"])
        network["report"].beams = 1
        assert network["report"](memory).ids[:, 0].tolist() == outputs["greedy"]["ids"]
    with pytest.raises(ValueError, match="1 entries missing"):
        load_into(network, own_names(case["entries"][1:]))


def test_weights_of_version_0_1_load():
    decoder = ReportDecoder(vocab_size=20, dim=16, hidden=16, heads=4, layers=2)
    former = {
        name.replace(".self_attention.", ".own.").replace(".cross_attention.", ".cross."): torch.full_like(value, 0.5)
        for name, value in decoder.state_dict().items()
    }
    assert former.keys() != decoder.state_dict().keys()
    decoder.load_state_dict(former)
    assert all((value == 0.5).all() for value in decoder.state_dict().values())


def test_regions_of_version_0_1_load():
    encoder = RegionEncoder(channels=4, widths=(4, 4, 8, 8, 8), coordinates=True)
    renamed = {"lera.spatial.": "lera.place.", "corners.": "place."}
    former = {}
    for name, value in encoder.state_dict().items():
        prefix = next((prefix for prefix in renamed if name.startswith(prefix)), "")
        former[renamed.get(prefix, "") + name.removeprefix(prefix)] = torch.full_like(value, 1)
    assert {"lera.place.weight", "place.bias"} <= former.keys()
    encoder.load_state_dict(former)
    assert (encoder.lera.spatial.weight == 1).all() and (encoder.corners.bias == 1).all()
