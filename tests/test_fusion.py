import pytest
import torch

from common.nn.attention import MultiHeadAttention
from common.nn.fusion import FiLM, PixelWordAttention


def test_film_starts_as_identity_and_follows_its_formula():
    film = FiLM(condition_dim=3, channels=4)
    features, condition = torch.rand(2, 4, 5, 6), torch.rand(2, 3)
    assert torch.equal(film(features, condition), features)
    torch.nn.init.normal_(film.mul.weight)
    torch.nn.init.normal_(film.add.weight)
    expected = film.mul(condition)[:, :, None, None] * features + film.add(condition)[:, :, None, None]
    torch.testing.assert_close(film(features, condition), expected)
    assert film(torch.rand(2, 4, 7), condition).shape == (2, 4, 7)


@pytest.fixture
def attention():
    module = PixelWordAttention(channels=8, text_dim=6, dim=4)
    torch.nn.init.normal_(module.null_value)
    return module


def test_attention_sums_to_one_and_skips_padding(attention):
    keep = torch.tensor([[1.0, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    semantic, weights = attention(torch.rand(2, 8, 3, 4), torch.rand(2, 5, 6), keep)
    assert semantic.shape == (2, 4, 3, 4) and weights.shape == (2, 12, 6)
    torch.testing.assert_close(weights.sum(2), torch.ones(2, 12))
    assert (weights[0, :, 4:] == 0).all()


def test_no_words_leave_the_null_word(attention):
    semantic, weights = attention(torch.rand(2, 8, 3, 4), torch.rand(2, 5, 6), torch.zeros(2, 5))
    assert (weights[:, :, 0] == 1).all()
    torch.testing.assert_close(semantic, attention.null_value[None, :, None, None].expand(2, 4, 3, 4))


def test_a_small_mask_everywhere_is_nearly_no_words(attention):
    features, words = torch.rand(2, 8, 3, 4), torch.rand(2, 5, 6)
    none, _ = attention(features, words, torch.zeros(2, 5))
    small, _ = attention(features, words, torch.full((2, 5), 0.01))
    full, _ = attention(features, words, torch.ones(2, 5))
    assert (small - none).abs().max() < 0.02 * (full - none).abs().max()


def test_order_of_words_does_not_matter(attention):
    features, words, keep = torch.rand(1, 8, 3, 4), torch.rand(1, 5, 6), torch.rand(1, 5)
    order = torch.randperm(5)
    torch.testing.assert_close(
        attention(features, words, keep)[0], attention(features, words[:, order], keep[:, order])[0]
    )


def test_affinity_is_highest_for_the_report_that_fits():
    module = PixelWordAttention(channels=4, text_dim=4, dim=4)
    with torch.no_grad():
        module.query.weight.copy_(torch.eye(4)[:, :, None, None])
        module.query.bias.zero_()
        module.key.weight.copy_(torch.eye(4))
        module.key.bias.zero_()
    features = torch.zeros(3, 4, 2, 2)
    for index in range(3):
        features[index, index, 0, 0] = 1  # the region's pixel
        features[index, 3, 1, 1] = 1
    words = torch.eye(4)[:3, None].repeat(1, 2, 1)  # report i says word i, twice: one sentence each
    region = torch.zeros(3, 1, 2, 2)
    region[:, :, 0, 0] = 1
    affinity = module.affinity(features, words, torch.ones(3, 2), torch.tensor([[0, 1]] * 3), region)
    assert affinity.argmax(1).tolist() == [0, 1, 2]
    torch.testing.assert_close(affinity.diagonal(), torch.full((3,), module.scale))


def test_affinity_counts_a_sentence_once_however_long():
    module = PixelWordAttention(channels=8, text_dim=6, dim=4)
    features, region = torch.rand(1, 8, 2, 2), torch.ones(1, 1, 4, 4)
    word, other = torch.rand(6), torch.rand(6)
    short = module.affinity(
        features, torch.stack([word, other])[None], torch.ones(1, 2), torch.tensor([[0, 1]]), region
    )
    long = torch.stack([word, word, word, other])[None]
    torch.testing.assert_close(
        module.affinity(features, long, torch.ones(1, 4), torch.tensor([[0, 0, 0, 1]]), region), short
    )


def test_cross_attention_equals_torch_and_respects_its_mask():
    ours = MultiHeadAttention(dim=8, memory_dim=8, heads=2).eval()
    theirs = torch.nn.MultiheadAttention(8, 2, batch_first=True).eval()
    with torch.no_grad():
        theirs.in_proj_weight.copy_(torch.cat([ours.query.weight, ours.key.weight, ours.value.weight]))
        theirs.in_proj_bias.copy_(torch.cat([ours.query.bias, ours.key.bias, ours.value.bias]))
        theirs.out_proj.load_state_dict(ours.out.state_dict())
    queries, memory = torch.rand(2, 3, 8), torch.rand(2, 5, 8)
    mask = torch.tensor([[True] * 5, [True, True, False, False, False]])
    expected, _ = theirs(queries, memory, memory, key_padding_mask=~mask)
    torch.testing.assert_close(ours(queries, memory, mask[:, None, None]), expected)


def test_cross_attention_refuses_uneven_heads():
    with pytest.raises(ValueError, match="heads: 3 do not divide the width 8"):
        MultiHeadAttention(dim=8, memory_dim=8, heads=3)
