"""D2R-Net: blocks equal to the published ones, empty regions, gradients."""

import pytest
import torch
from d2rnet.report.alignment import Alignment, Boundary, hinge, match, mean_of_sentences
from d2rnet.report.channel_prior import ChannelPriorAttention
from d2rnet.report.network import D2RNet, TokenNorm
from d2rnet.report.published import CONVOLUTIONS, PRIOR, REGIONS, load_published, visual_names
from d2rnet.report.regions import LERA, RegionEncoder
from d2rnet.report.visual import VisualEncoder

from common.nn.published import load_into, rename
from common.text.encoders import TransformerTextEncoder
from tests import published_numbers


def own_names(entries, rules):
    return {rename(name, rules): value for name, value in published_numbers.state_dict(entries).items()}


@pytest.fixture(scope="module")
def cases():
    return published_numbers.load("d2r_blocks")["cases"]


def of(spec):
    return {"noise": published_numbers.noise, "wave": published_numbers.wave}[spec["formula"]](spec)


@pytest.mark.parametrize("channels", [64, 2048])
def test_channel_prior_attention_equals_the_published(cases, channels):
    case, block = cases[f"cpca_{channels}"], ChannelPriorAttention(channels)
    load_into(block, own_names(case["entries"], PRIOR))
    published_numbers.check(block(of(case["inputs"]["x"])), case["outputs"]["output"], 1e-5)


@pytest.mark.parametrize(("inside", "channels"), [(3, 3), (16, 16), (3, 16)])
def test_lera_equals_the_published_block(cases, inside, channels):
    case = cases[f"ppa_{inside}_to_{channels}" if inside != channels else f"ppa_{channels}"]
    block = LERA(channels, inside=inside).eval()
    load_into(block, own_names(case["entries"], REGIONS))
    x, outputs = of(case["inputs"]["x"]), case["outputs"]
    skip = block.skip(x)
    published_numbers.check(skip, outputs["skip"])
    published_numbers.check(block.patches[0](skip), outputs["local_global_2"])
    published_numbers.check(block.patches[1](skip), outputs["local_global_4"])
    published_numbers.check(block(x), outputs["output"])


def test_the_narrow_block_is_blind_and_the_default_is_not():
    for channels, blind in ((3, True), (16, False)):
        branch = LERA(channels).eval().patches[0]
        x = torch.rand(2, channels, 8, 8)
        same = []
        for sign in (1, -1):  # a prompt that no patch resembles lets nothing through
            branch.prompt.data *= sign
            same.append(torch.equal(branch(x[:1]), branch(x[1:])))
        assert all(same) == blind


def test_region_convolutions_equal_the_published(cases):
    case, encoder = cases["simple_conv_net"], RegionEncoder(channels=3).eval()
    load_into(
        encoder.layers, {k.removeprefix("layers."): v for k, v in own_names(case["entries"], CONVOLUTIONS).items()}
    )
    published_numbers.check(encoder.layers(of(case["inputs"]["x"])).mean([2, 3]), case["outputs"]["output"])


def test_empty_regions_are_zero_and_change_nothing():
    torch.manual_seed(0)
    encoder = RegionEncoder(channels=4, widths=(4, 8, 8, 8, 16)).train()
    encoder.lera.dropout.p = 0.0
    regions, mask = torch.rand(2, 3, 3, 64, 64), torch.tensor([[True, False, True], [False, False, True]])
    found = encoder(regions, mask)
    assert (found[~mask] == 0).all() and (found[mask] != 0).any(dim=1).all()
    other = torch.where(mask[:, :, None, None, None], regions, 9.0)
    torch.testing.assert_close(encoder(other, mask), found)
    assert (encoder(regions, torch.zeros_like(mask)) == 0).all()
    alone = encoder.eval()(regions[:1], mask[:1])
    torch.testing.assert_close(alone, encoder(regions, mask)[:1])


def test_visual_side_equals_the_published():
    case = published_numbers.load("d2r_visual")
    side = VisualEncoder(region_channels=3).eval()
    load_into(side, visual_names(published_numbers.state_dict(case["entries"])))
    image, regions = (of(case["inputs"][name]) for name in ("images", "regions"))
    mask = torch.tensor([[True, False, True]])
    with torch.no_grad():
        view = torch.ones(1, 1, dtype=torch.bool)
        seen, outputs = side(image[:, None], view, regions, mask), case["outputs"]
        published_numbers.check(side.head[0](side.features(image)[3]), outputs["after_cpca"])
    published_numbers.check(seen.patches, outputs["patches"])
    published_numbers.check(seen.patches.mean(1), outputs["global_vector"])
    published_numbers.check(seen.regions.masked_fill(~mask[:, :, None], 1e-8), outputs["regions"])
    with pytest.raises(ValueError, match="strange is no entry"):
        visual_names({"strange": image})


@pytest.fixture(scope="module")
def pairs():
    case = published_numbers.load("losses")["cases"]["naaf"]
    regions, words = (published_numbers.noise(case["inputs"][name]) for name in ("regions", "words_raw"))
    words = words + 0.6 * regions[:, :12]
    regions, words = (torch.nn.functional.normalize(part, dim=2).double() for part in (regions, words))
    counts = torch.tensor(case["word_counts"])
    masks = torch.ones(4, 36, dtype=torch.bool), torch.arange(12)[None] < counts[:, None]
    return case["results"], (regions, words, *masks)


@pytest.mark.parametrize("boundary", ["0.0", "0.25", "0.4"])
def test_matching_equals_the_published(pairs, boundary):
    results, inputs = pairs
    scores, recorded = match(*inputs, boundary=float(boundary)).scores, results[boundary]
    wanted = torch.tensor(recorded["score_train_form [image, caption]"], dtype=torch.float64)
    torch.testing.assert_close(scores, wanted, atol=1e-6, rtol=0)
    for margin in (0.2, 0.6):
        summed = recorded[f"hinge margin {margin} hardest negatives"]["train_form"]
        assert float(hinge(scores, margin=margin) * 4) == pytest.approx(summed, abs=1e-6)


def test_absent_regions_and_words_change_no_score(pairs):
    regions, words, region_mask, word_mask = pairs[1]
    wanted = match(regions, words, region_mask, word_mask, boundary=0.2).scores
    more = torch.cat([regions, torch.ones(4, 2, 64).double()], 1), torch.cat([words, torch.ones(4, 3, 64).double()], 1)
    padded = [torch.cat([m, torch.zeros(4, n, dtype=torch.bool)], 1) for m, n in ((region_mask, 2), (word_mask, 3))]
    torch.testing.assert_close(match(*more, *padded, boundary=0.2).scores, wanted)


def test_boundary_lies_between_matched_and_mismatched_words():
    boundary, mask = Boundary(), torch.ones(8, 50, dtype=torch.bool)
    for _ in range(30):
        best = 0.2 + 0.1 * torch.randn(8, 8, 50)
        best[range(8), range(8)] += 0.5
        boundary.update(best, mask)
    assert 0.3 < float(boundary.value) < 0.6
    kept = boundary.value.clone()
    boundary.update(best[:1, :1], mask[:1])
    assert torch.equal(boundary.value, kept)


@pytest.mark.parametrize(("name", "views"), [("r2gen", 1), ("r2gen_iu", 2)])
def test_without_regions_it_is_the_published_r2gen(name, views):
    case = published_numbers.load(name)
    sizes, outputs = case["config"], case["outputs"]
    visual = VisualEncoder(prior=False, region_channels=0)
    network = D2RNet(
        visual=visual, vocab_size=sizes["num_embeddings"], begin_id=0, end_id=0, pad_id=0, unknown_id=-1,
        max_length=sizes["max_length"],
    ).eval()  # fmt: skip
    entries = [entry for entry in case["entries"] if entry[2] != "sinusoid"]
    load_published(network, published_numbers.state_dict(entries))
    image = of(case["inputs"]["images"]).unflatten(0, [-1, 1]) if views == 1 else of(case["inputs"]["images"])
    ids = torch.tensor(case["inputs"]["token_ids"])[:, :-1]
    with torch.no_grad():
        seen, memory, there, _ = network.encode(image)
        published_numbers.check(seen.patches, outputs["patch_features"])
        published_numbers.check(memory, outputs["encoder_memory"])
        forced = outputs["log_probs (teacher forcing; position k predicts token k+1)"]
        published_numbers.check(network.report.decoder(ids, memory, there), forced)
        found = network.report(memory, there)
        for study, beams in enumerate(outputs["beam"]["all_beams"]):
            for rank, beam in enumerate(beams):
                assert [i for i in found.ids[study, rank].tolist() if i] == [i for i in beam["ids"] if i]
        network.report.beams = 1
        assert network.report(memory, there).ids[:, 0].tolist() == outputs["greedy"]["ids"]


@pytest.fixture
def small():
    torch.manual_seed(0)
    visual = VisualEncoder(depth=18, resnet_width=8, region_channels=4, region_widths=(4, 8, 8, 8, 16))
    return D2RNet(visual=visual, vocab_size=30, dim=16, hidden=16, heads=4, layers=1, slot_heads=4, max_length=12)


def test_missing_views_and_regions_change_nothing(small):
    small.eval()
    image, regions = torch.rand(2, 2, 3, 64, 64), torch.rand(2, 3, 3, 64, 64)
    views, mask = torch.tensor([[True, True], [True, False]]), torch.tensor([[True, False, True], [False] * 3])
    ids = torch.randint(4, 30, (2, 5))
    with torch.no_grad():
        wanted = small(image, ids, regions, mask, views)
        image[1, 1], regions[0, 1], regions[1] = 5.0, 5.0, 5.0
        torch.testing.assert_close(small(image, ids, regions, mask, views), wanted)
        torch.testing.assert_close(small(image[1:, :1], ids[1:]), wanted[1:])
        assert not torch.allclose(small(image, ids, regions, ~mask, views)[0], wanted[0], atol=1e-4)


def test_scripted_network_generates_the_same(small):
    image, regions, mask = torch.rand(2, 1, 3, 64, 64), torch.rand(2, 2, 3, 64, 64), torch.tensor([[True, False]] * 2)
    scripted = torch.jit.script(small.eval())
    for found, wanted in zip(
        scripted.generate(image, regions, mask), small.generate(image, regions, mask), strict=True
    ):
        torch.testing.assert_close(found, wanted)


def report_ids(seed, count=6):
    """Random reports of two sentences of three words."""
    ids = torch.randint(4, 60, (count, 6), generator=torch.Generator().manual_seed(seed))
    sentences = torch.tensor([0, 0, 0, 1, 1, 1]).expand(count, -1)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "sentence_ids": sentences}


@pytest.fixture
def alignment():
    torch.manual_seed(0)
    return Alignment(TransformerTextEncoder(vocab_size=60, width=32, layers=1, heads=4), width=16)


def test_sentences_are_means_of_their_words():
    words = torch.arange(8.0).reshape(1, 4, 2)
    mask = torch.tensor([[True, True, True, False]])
    means, there = mean_of_sentences(words, mask, torch.tensor([[0, 0, 1, 2]]))
    assert means.tolist() == [[[1.0, 2.0], [4.0, 5.0]]] and there.tolist() == [[True, True]]


def test_both_alignments_move_image_and_text(alignment):
    for name, others in (("global", "regions"), ("local", "patches")):
        parts = {key: torch.randn(4, 5, 16, requires_grad=True) for key in ("patches", "regions")}
        mask = torch.ones(4, 5, dtype=torch.bool)
        alignment.zero_grad()
        alignment(parts["patches"], mask, parts["regions"], mask, report_ids(0, 4))[name].backward()
        moved = {key: part.grad is not None and bool((part.grad != 0).any()) for key, part in parts.items()}
        assert moved == {key: key != others for key in parts}
        assert (alignment.encoder.words.weight.grad != 0).any()


def test_studies_without_regions_are_left_out(alignment):
    patches, regions, there = torch.randn(4, 5, 16), torch.randn(4, 3, 16), torch.ones(4, 5, dtype=torch.bool)
    text, mask = report_ids(0, 4), torch.tensor([[True] * 3, [False] * 3, [True, False, False], [False] * 3])
    alignment.eval()
    found = alignment(patches, there, regions, mask, text)["local"]
    part = {key: value[[0, 2]] for key, value in text.items()}
    torch.testing.assert_close(
        found, alignment(patches[[0, 2]], there[[0, 2]], regions[[0, 2]], mask[[0, 2]], part)["local"]
    )
    assert float(alignment(patches, there, regions, mask & False, text)["local"].detach()) == 0


def test_matched_pairs_score_highest_after_a_short_training(alignment):
    seen = torch.nn.Parameter(torch.randn(6, 5, 16))
    mask, text = torch.ones(6, 5, dtype=torch.bool), report_ids(1)
    optimizer = torch.optim.Adam([seen, *alignment.parameters()], lr=5e-3)
    for _ in range(80):
        optimizer.zero_grad()
        sum(alignment.train()(seen, mask, seen, mask, text).values()).backward()
        optimizer.step()
    with torch.no_grad():
        words = torch.nn.functional.normalize(alignment.project(alignment.encoder(**text).tokens), dim=2)
        regions = torch.nn.functional.normalize(seen, dim=2)
        found = match(regions, words, mask, text["attention_mask"] > 0, boundary=float(alignment.of_patches.value))
    assert found.scores.argmax(0).tolist() == found.scores.argmax(1).tolist() == list(range(6))


def test_batch_norm_of_tokens_sees_those_that_there_are():
    norm, there = TokenNorm(4), torch.tensor([[True, True, False], [True, False, False]])
    x = torch.randn(2, 3, 4)
    found = norm.train()(torch.where(there[:, :, None], x, 1e6), there)
    torch.testing.assert_close(found[there].mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    assert not found[~there].any()
    torch.testing.assert_close(norm.norm.running_mean, 0.1 * x[there].mean(0))
    torch.testing.assert_close(norm.eval()(x, there)[there], norm.norm(x[there]))


def test_a_regions_place_moves_its_vector_and_leaves_its_look_alone():
    encoder = RegionEncoder(channels=4, widths=(4, 4, 8, 8, 8), coordinates=True).eval()
    look, mask = torch.randn(1, 1, 1, 48, 48).expand(-1, -1, 3, -1, -1).clone(), torch.ones(1, 1, dtype=torch.bool)
    here, there = look.clone(), look.clone()
    here[:, :, 1:], there[:, :, 1:] = -0.5, 0.5
    moved = encoder(there, mask) - encoder(here, mask)
    torch.testing.assert_close(moved[0, 0], encoder.corners.weight.sum(1))
    plain = RegionEncoder(channels=4, widths=(4, 4, 8, 8, 8)).eval()
    plain.load_state_dict({k: v for k, v in encoder.state_dict().items() if not k.startswith("corners.")})
    torch.testing.assert_close(
        encoder(here, mask)[0, 0], plain(look, mask)[0, 0] + encoder.corners(torch.full((4,), -0.5))
    )
