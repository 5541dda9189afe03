"""The network, the erasure and the losses: the spec's tests against a fake game that need no training."""

import pytest
import torch
from monai.losses import DiceCELoss

from akessfa.erasure import choose_sentences, choose_words, keyword_targets, random_keep
from akessfa.generator import sum_by_sentence
from akessfa.loss import alignment_loss, attribution_targets, keyword_loss, word_share
from akessfa.network import AKESSFA, Segmenter
from common.nn.losses import mean_segmentation_loss, segmentation_loss
from common.text.encoders import TransformerTextEncoder

LENGTH = 24


def make_network() -> AKESSFA:
    torch.manual_seed(0)
    encoder = TransformerTextEncoder(vocab_size=60, width=16, heads=2, dropout=0.0)
    network = AKESSFA(segmenter=Segmenter(text_encoder=encoder, depth=18, decoder_width=8))
    for ssfa in network.segmenter.ssfa:  # untrained, the words' effect is small: make it visible
        torch.nn.init.normal_(ssfa.attend.value.weight, std=2.0)
    return network


@pytest.fixture(scope="module")
def network():
    return make_network().eval()


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(4, 60, (3, LENGTH), generator=generator)
    ids[0, 18:] = 0
    return {
        "image": torch.rand(3, 1, 64, 64, generator=generator),
        "label": (torch.rand(3, 1, 64, 64, generator=generator) > 0.7).float(),
        "input_ids": ids,
        "attention_mask": (ids > 0).long(),
        "sentence_ids": (torch.arange(LENGTH) // 6).repeat(3, 1) * (ids > 0),
    }


def text(batch):
    return batch["input_ids"], batch["attention_mask"], batch["sentence_ids"]


def segment(network, batch, keep):
    with torch.no_grad():
        return network.segmenter(batch["image"], *text(batch), keep).logits


def test_one_channel_for_each_version(network, batch):
    keep = torch.rand(3, 4, LENGTH).round()
    logits = segment(network, batch, keep)
    assert logits.shape == (3, 4, 64, 64)
    torch.testing.assert_close(logits[:, 2:3], segment(network, batch, keep[:, 2:3]), atol=1e-5, rtol=1e-4)


def test_m_zero_is_independent_of_the_report_bit_for_bit(network, batch):
    nothing = torch.zeros(3, 1, LENGTH)
    other = {**batch, "input_ids": batch["input_ids"].roll(1, 0), "attention_mask": batch["attention_mask"].roll(1, 0)}
    assert torch.equal(segment(network, batch, nothing), segment(network, other, nothing))
    with torch.no_grad():
        alone = network(batch["image"])
    torch.testing.assert_close(segment(network, batch, nothing), alone, atol=1e-5, rtol=1e-4)


def test_a_masked_out_word_changes_no_logit(network, batch):
    keep = torch.ones(3, 1, LENGTH)
    keep[:, :, 7] = 0
    changed = {**batch, "input_ids": batch["input_ids"].clone()}
    changed["input_ids"][:, 7] = 59
    assert torch.equal(segment(network, batch, keep), segment(network, changed, keep))
    assert not torch.equal(segment(network, batch, keep), segment(network, batch, torch.ones(3, 1, LENGTH)))


def test_a_hundredth_everywhere_is_nearly_the_empty_report(network, batch):
    empty, full, faint = (segment(network, batch, torch.full((3, 1, LENGTH), v)) for v in (0.0, 1.0, 0.01))
    assert (faint - empty).abs().max() < 0.05 * (full - empty).abs().max()


def test_erasing_a_sentence_is_deleting_it(network, batch):
    keep = torch.ones(3, 1, LENGTH)
    keep[1:, :, 18:] = 0
    shorter = {
        k: v[1:, :18] if k in ("input_ids", "attention_mask", "sentence_ids") else v[1:] for k, v in batch.items()
    }
    actual = segment(network, {k: v[1:] for k, v in batch.items()}, keep[1:])
    torch.testing.assert_close(actual, segment(network, shorter, torch.ones(2, 1, 18)), atol=1e-5, rtol=1e-4)


def test_the_report_matters_and_its_sentences_order_does_not(network, batch):
    with torch.no_grad():
        logits = network(batch["image"], *text(batch))
        wrong = network(batch["image"], *(t.roll(1, 0) for t in text(batch)))
        order = torch.cat([torch.arange(12, 24), torch.arange(12)])
        moved = network(batch["image"][1:], *(t[1:, order] for t in text(batch)))
    assert not torch.allclose(logits, wrong, atol=1e-3)
    torch.testing.assert_close(logits[1:], moved, atol=1e-5, rtol=1e-4)


def test_a_batch_equals_its_items_and_padding_changes_nothing(network, batch):
    with torch.no_grad():
        logits = network(batch["image"], *text(batch))
        alone = network(batch["image"][:1], *(t[:1, :18] for t in text(batch)))
    torch.testing.assert_close(logits[:1], alone, atol=1e-5, rtol=1e-4)


def test_explanation_has_probabilities_on_words_only(network, batch):
    with torch.no_grad():
        explanation = network.explain(batch["image"], *text(batch))
        torch.testing.assert_close(explanation.logits, network(batch["image"], *text(batch)))
    words = batch["attention_mask"] > 0
    assert (explanation.keywords[words] > 0).all() and (explanation.keywords[words] < 1).all()
    assert (explanation.keywords[~words] == 0).all()
    assert [tuple(a.shape[1:]) for a in explanation.attention] == [(8, 8, LENGTH), (4, 4, LENGTH), (2, 2, LENGTH)]
    assert all((a >= 0).all() and (a.sum(3) <= 1.0001).all() for a in explanation.attention)


def test_special_tokens_are_no_words(network, batch):
    batch["input_ids"][:, 0] = 2
    is_word = network.segmenter.is_word(*text(batch)[:2])
    assert (is_word[:, 0] == 0).all() and is_word[1:, 1:].all() and not is_word[0, 18:].any()


def test_scripted_equals_eager_at_other_shapes(network, batch):
    scripted = torch.jit.script(network)
    for rows, length, size in ((3, LENGTH, 64), (1, 12, 96)):
        image = torch.nn.functional.interpolate(batch["image"][:rows], size=(size, 64))
        arguments = [t[:rows, :length] for t in text(batch)]
        with torch.no_grad():
            torch.testing.assert_close(scripted(image, *arguments), network(image, *arguments))
            torch.testing.assert_close(
                scripted.explain(image, *arguments).keywords, network.explain(image, *arguments).keywords
            )


def test_segmentation_loss_is_monais_dice_ce(batch):
    logits = torch.randn(3, 1, 64, 64)
    expected = DiceCELoss(sigmoid=True)(logits, batch["label"])
    torch.testing.assert_close(segmentation_loss(logits, batch["label"]).mean(), expected)
    assert segmentation_loss(logits.repeat(1, 4, 1, 1), batch["label"]).shape == (3, 4)


def test_an_image_without_a_nodule_counts_more_where_that_is_asked_for():
    """MONAI's Dice of an empty mask is 1 whatever is outlined; cross-entropy alone pulls a small outline away."""
    area = torch.zeros(2, 1, 64, 64)
    area[:, :, 20:28, 20:28] = 1
    logits = (8 * area - 4).requires_grad_()
    label = torch.stack([area[0].roll(8, 2), torch.zeros_like(area[0])])
    ratios = []
    for weight in (0.0, 1.0):
        losses = segmentation_loss(logits, label, empty_weight=weight)[:, 0]
        (gradient,) = torch.autograd.grad(losses.sum(), logits)
        steepness = gradient.abs().sum((1, 2, 3))
        ratios.append(float(steepness[1] / steepness[0]))
        assert mean_segmentation_loss(logits, label, empty_weight=weight) == losses.mean()
    assert ratios[0] < 0.6 and ratios[1] > 2 * ratios[0]
    nothing = segmentation_loss(torch.full((1, 1, 64, 64), -9.0), torch.zeros(1, 1, 64, 64), empty_weight=1.0)
    assert nothing < 0.02


def test_attribution_is_a_softmax_against_nothing():
    cost = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 9.0]])
    valid = torch.tensor([[True, True, True], [True, True, False]])
    q = attribution_targets(cost, valid, margin=0.1, temperature=0.2)
    assert q[0, 0] > 0.95 and q[1, 2] == 0 and (q.sum(1) < 1).all()
    torch.testing.assert_close(q[1, :2], torch.softmax(torch.tensor([0.5, 0, 0]), 0)[1:])


def test_every_loss_term_gives_a_gradient(batch):
    network = make_network().eval()  # batch statistics would let the versions see each other
    label = batch["label"]
    versions = {
        "full": torch.ones(3, LENGTH),
        "none": torch.zeros(3, LENGTH),
        "dropped": random_keep(batch["sentence_ids"]),
    }
    keep = torch.stack(list(versions.values()), dim=1)
    logits, affinity = network.segmenter(batch["image"], *text(batch), keep, label)
    terms = dict(zip(versions, segmentation_loss(logits, label).mean(0), strict=True))
    terms["alignment"] = alignment_loss(affinity, batch["input_ids"], label)
    for name, term in terms.items():
        network.zero_grad()
        term.backward(retain_graph=True)
        assert network.segmenter.image_encoder.layer2[0].conv1.weight.grad.abs().sum() > 0, name
        words = network.segmenter.text_encoder.words.weight.grad
        assert (words is not None and words.abs().sum() > 0) == (name != "none"), name


def test_alignment_skips_equal_reports_and_images_without_a_nodule(batch):
    ids, label = batch["input_ids"].clone(), batch["label"].clone()
    ids[1] = ids[0]
    affinity = torch.tensor([[0.0, 50, 0], [50, 0, 0], [0, 0, 50]])
    assert alignment_loss(affinity, ids, label) < 1  # the other copy of the same report is no negative
    assert alignment_loss(affinity, batch["input_ids"], label) > 30
    label[:2] = 0
    assert alignment_loss(affinity, batch["input_ids"], label) < 1e-6
    assert alignment_loss(affinity, torch.zeros_like(ids), label) == 0


def test_random_keep_drops_words_and_sentences_at_all_rates():
    sentences = (torch.arange(LENGTH) // 6).repeat(400, 1)
    keep = random_keep(sentences)
    share = keep.mean(1)
    whole = (keep.view(400, 4, 6).std(2) == 0).all(1)
    assert set(keep.unique().tolist()) == {0.0, 1.0}
    assert 0.4 < share.mean() < 0.6 and share.min() < 0.1 and share.max() > 0.9
    assert 0.4 < whole.float().mean() < 0.75


def test_chosen_sentences_are_different_present_and_erased_whole(batch):
    is_word = batch["attention_mask"].float()
    erasure = choose_sentences(batch["sentence_ids"], is_word, 4)
    assert erasure.valid.tolist() == [[True] * 3 + [False], [True] * 4, [True] * 4]
    assert all(len(set(row.tolist())) == 4 for row in erasure.ids)
    for row in range(3):
        for slot in range(4):
            mine = batch["sentence_ids"][row] == erasure.ids[row, slot]
            assert torch.equal(erasure.keep[row, slot] == 0, mine)


def test_chosen_words_are_different_candidates_and_erased_alone():
    candidates = torch.tensor([[False, True, True, True, False], [False, False, True, False, False]])
    erasure = choose_words(candidates, 2)
    assert erasure.valid.tolist() == [[True, True], [True, False]]
    assert set(erasure.ids[0].tolist()) < {1, 2, 3} and erasure.ids[1, 0] == 2
    assert (erasure.keep == 0).sum(2).tolist() == [[1, 1], [1, 1]] and erasure.keep[1, 0, 2] == 0


SETTINGS = {"sentences": 4, "margin": 0.1, "temperature": 0.2, "share": 0.5}


def loss_of(keep):
    """A segmenter that needs words 13 and 14, of sentence 2, each for half of the loss."""
    return 2.0 - keep[:, :, 13] - keep[:, :, 14]


def test_targets_name_the_sentence_that_costs_most_whatever_the_generator_says(batch):
    is_word = batch["attention_mask"].float()
    targets = keyword_targets(loss_of, batch["sentence_ids"], is_word, words=0, **SETTINGS)
    wanted = targets.sentence
    assert (wanted[:, 12:18] > 0.99).all() and (wanted[:, :12] < 0.01).all() and (wanted[0, 18:] == 0).all()
    assert torch.equal(targets.sentence_weight, is_word)
    assert (targets.word == 1).all() and torch.equal(targets.word_weight, is_word)
    right = keyword_loss(torch.where(wanted > 0.5, 9.0, -9.0), wanted, is_word)
    assert right < 0.01 < keyword_loss(torch.zeros_like(wanted), wanted, is_word)


def test_targets_name_the_words_of_the_winning_sentence_that_cost(batch):
    is_word = batch["attention_mask"].float()
    targets = keyword_targets(loss_of, batch["sentence_ids"], is_word, words=6, **SETTINGS)
    assert (targets.word[:, 13:15] > 0.99).all() and (targets.word[:, [12, 15, 16, 17]] == 0).all()
    assert (targets.word_weight[:, 12:18] > 0.99).all()  # all six words were erased, and their sentence explains all
    assert (targets.word_weight[:, :12] == 0).all() and (targets.word_weight[:, 18:] == 0).all()
    for _ in range(5):
        some = keyword_targets(loss_of, batch["sentence_ids"], is_word, words=3, **SETTINGS)
        assert ((some.word_weight > 0).sum(1) == 3).all() and (some.word_weight[:, :12] == 0).all()
        erased = some.word_weight > 0
        torch.testing.assert_close(some.word[erased], targets.word[erased])
        torch.testing.assert_close(some.sentence, targets.sentence)


def test_a_words_share_is_of_its_sentences_cost_and_of_the_margin_at_least():
    cost, whole = torch.tensor([[0.05, 0.4, -0.1], [0.05, 0.4, -0.1]]), torch.tensor([[0.8], [0.01]])
    shares = word_share(cost, whole, margin=0.1, share=0.25)
    torch.testing.assert_close(shares, torch.tensor([[0.25, 1.0, 0.0], [1.0, 1.0, 0.0]]))


def test_sum_by_sentence():
    values, sentences = torch.tensor([[1.0, 2, 3, 4]]), torch.tensor([[0, 0, 1, 1]])
    assert sum_by_sentence(values, sentences).tolist() == [[3, 3, 7, 7]]


def test_no_hint_without_mass_weight(batch):
    torch.manual_seed(0)
    encoder = TransformerTextEncoder(vocab_size=60, width=16, heads=2)
    network = AKESSFA(segmenter=Segmenter(text_encoder=encoder, depth=18), mass_weight=0.0)
    assert not network.generator.mass_weight.requires_grad
    words, pixels, is_word = torch.rand(1, 6, 16), torch.rand(1, 4, 256), torch.ones(1, 6)
    scores = [network.generator(words, pixels, mass, is_word, torch.arange(6)[None]) for mass in torch.rand(2, 1, 6)]
    assert torch.equal(*scores)
