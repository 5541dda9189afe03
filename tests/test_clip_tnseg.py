"""CLIP-TNseg: equal to the published network, and what its parts promise."""

import pytest
import torch
from clip_tnseg.frozen_clip import FrozenClip
from clip_tnseg.network import CLIPTNseg, FineBranch, ResidualBlock
from clip_tnseg.published import load_openai_clip, load_published
from torch import nn
from transformers import CLIPConfig, CLIPModel

from common.nn.cpu_layout import CPULayout
from tests import published_numbers

END = 49


def small_clip():
    torch.manual_seed(0)
    text = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = {**text, "num_hidden_layers": 4, "image_size": 64, "patch_size": 16}
    text |= {"vocab_size": 50, "eos_token_id": END, "bos_token_id": 48, "max_position_embeddings": 12}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=24))


def make_network(**options):
    torch.manual_seed(0)
    return CLIPTNseg(clip=FrozenClip(weights=small_clip(), taps=(0, 1, 2)), dim=32, **options)


@pytest.fixture
def network():
    return make_network().eval()


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(1)
    ids = torch.tensor([[48, 5, 6, END, 0, 0], [48, 7, 8, 9, 10, END]])
    return torch.randn(2, 3, 64, 96, generator=generator), ids


@pytest.mark.slow
@pytest.mark.parametrize("size", ["224", "352"])
def test_equal_to_the_published_network(published, size):
    golden, network = published
    recorded, image = golden["runs"][size]["outputs"], published_numbers.wave(golden["runs"][size]["inputs"]["image"])
    phrase = golden["phrases"]["a photo of a nodule"]
    ids = torch.tensor([phrase + [0] * (77 - len(phrase))])
    with torch.no_grad():
        taps, condition = network.clip(image), network.clip.condition(ids)
        outputs = {
            "text_condition": condition,
            "image_embedding": network.clip.image_embedding(image),
            "coarse_branch": network.coarse(taps, condition, int(size) // 16, int(size) // 16),
            "fine_branch": network.fine(image),
            "logits": network(image, ids),
        }
    for block, tap in zip((3, 7, 9), taps, strict=True):
        outputs[f"tap after block {block} (tokens, batch, width)"] = tap.transpose(0, 1)
    assert outputs.keys() == recorded.keys()
    for name, value in outputs.items():
        published_numbers.check(value, recorded[name])


@pytest.fixture(scope="module")
def published():
    golden = published_numbers.load("clip_tnseg")
    config = CLIPConfig(text_config={"eos_token_id": 49407}, vision_config={"patch_size": 16}, projection_dim=512)
    network = CLIPTNseg(clip=FrozenClip(weights=CLIPModel(config))).eval()
    duplicates = next(golden[key] for key in golden if key.startswith("duplicate_entries"))
    state = published_numbers.state_dict([*golden["entries"], *duplicates])
    second_names = {"CGB.clip_model.logit_scale": torch.ones(()), "CGB.model.proj": torch.zeros(768, 512)}
    load_published(network, state | second_names)  # as in a file with the whole published class
    load_openai_clip(network, published_numbers.state_dict(golden["clip_entries (OpenAI names)"]))
    return golden, network


@pytest.mark.slow
def test_one_clip_and_the_published_number_of_trained_parameters(published):
    _, network = published
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    unused = 64 * 768 + 64  # the published CGB.reduce
    assert sum(p.numel() for p in network.parameters()) < 160e6
    assert abs(trained + unused - 8.713e6) < 2e3


def test_a_published_file_with_other_entries_is_refused(network):
    with pytest.raises(ValueError, match=r"weights: .*: \d+ entries missing .*, 1 not known \['head\.9\.weight'\]"):
        load_published(network, {"PH.9.weight": torch.zeros(1)})
    with pytest.raises(ValueError, match=r"weights: .* not known"):
        load_openai_clip(network, {"visual.other": torch.zeros(1)})


def test_taps_are_clips_hidden_states():
    clip = small_clip().eval()
    image = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        hidden = clip.vision_model(image, output_hidden_states=True).hidden_states
        taps = FrozenClip(weights=clip, taps=(0, 2))(image)
    torch.testing.assert_close(taps[0], hidden[1])
    torch.testing.assert_close(taps[1], hidden[3])


@pytest.mark.parametrize("taps", [(0, 4), (2, 1), (1, 1)])
def test_impossible_taps_are_refused(taps):
    with pytest.raises(ValueError, match=r"taps: .* must rise and stay below 4"):
        FrozenClip(weights=small_clip(), taps=taps)


def test_conditions_are_clips_text_features_and_padding_changes_nothing(network, batch):
    _, ids = batch
    with torch.no_grad():
        condition = network.clip.condition(ids)
        alone = network.clip.condition(ids[:1, :4])
        wanted = small_clip().eval().get_text_features(ids).pooler_output
    torch.testing.assert_close(condition, wanted)
    torch.testing.assert_close(condition[:1], alone)


def test_clip_is_frozen_and_stays_in_eval_mode(network, batch):
    image, ids = batch
    network.train()
    assert not network.clip.training and not any(p.requires_grad for p in network.clip.parameters())
    network(image, ids).sum().backward()
    assert all(p.grad is None for p in network.clip.parameters())
    assert all(p.grad is not None for name, p in network.named_parameters() if not name.startswith("clip."))


def test_the_phrase_matters_and_a_batch_equals_its_items(network, batch):
    image, ids = batch
    torch.nn.init.normal_(network.coarse.film.mul.weight)  # an untrained FiLM is the identity
    with torch.no_grad():
        logits = network(image, ids)
        assert logits.shape == (2, 1, 64, 96)
        torch.testing.assert_close(logits[:1], network(image[:1], ids[:1]), atol=1e-5, rtol=1e-4)
        assert (logits - network(image, ids.flip(0))).abs().max() > 1e-4
        assert not torch.equal(logits, network(image))


def test_precomputed_taps_and_conditions_give_the_same_logits(network, batch):
    image, ids = batch
    with torch.no_grad():
        torch.testing.assert_close(
            network.segment(image, network.clip(image), network.clip.condition(ids)), network(image, ids)
        )


@pytest.mark.parametrize("options", [{}, {"coarse": False}, {"fine": False}])
@pytest.mark.parametrize("amp", [False, True])
def test_fast_inference_gives_the_same_logits(batch, options, amp):
    network = make_network(**options).eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=amp):
        before = network(*batch)
        CPULayout(linear=network.clip, convolutions=network.convolutions(), amp=amp, larger_than=0).apply()
        torch.testing.assert_close(network(*batch), before, atol=2e-2 if amp else 1e-4, rtol=0)
    linear = [module for module in network.clip.modules() if isinstance(module, nn.Linear)]
    assert bool(linear) == amp
    assert network.head[-1].weight.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("option", "branch"), [("coarse", "fine"), ("fine", "coarse")])
def test_a_branch_left_out_is_not_there(batch, option, branch):
    network = make_network(**{option: False})
    logits = network(*batch)
    logits.sum().backward()
    assert getattr(network, option) is None and logits.shape == (2, 1, 64, 96)
    assert all(p.grad is not None for p in network.parameters() if p.requires_grad)
    assert any(p.grad.abs().sum() > 0 for p in getattr(network, branch).parameters())
    torch.testing.assert_close(torch.jit.script(network.eval())(*batch), network(*batch), atol=1e-5, rtol=1e-4)


def test_one_branch_at_least():
    with pytest.raises(ValueError, match="keep one branch at least"):
        make_network(coarse=False, fine=False)


def test_scripted_equals_eager_at_other_shapes(network, batch):
    image, ids = batch
    scripted = torch.jit.script(network)
    with torch.no_grad():
        torch.testing.assert_close(scripted(image, ids), network(image, ids), atol=1e-5, rtol=1e-4)
        for rows, height, width, length in ((1, 32, 32, 4), (3, 96, 64, 9)):
            other, phrase = torch.randn(rows, 3, height, width), torch.randint(1, 48, (rows, length))
            phrase[:, -1] = END
            torch.testing.assert_close(scripted(other, phrase), network(other, phrase), atol=1e-5, rtol=1e-4)


def test_fine_branch_keeps_the_size_and_uses_every_skip():
    branch = FineBranch()
    assert len(branch.encoder) == len(branch.decoder) == 18
    assert branch(torch.randn(1, 3, 64, 32)).shape == (1, 32, 64, 32)


def test_residual_block_is_the_identity_without_its_last_convolution():
    block = ResidualBlock(32, 32)
    torch.nn.init.zeros_(block.conv2.weight)
    torch.nn.init.zeros_(block.conv2.bias)
    x = torch.randn(1, 32, 8, 8)
    torch.testing.assert_close(block(x), x)
