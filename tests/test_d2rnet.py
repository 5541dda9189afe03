"""D2R-Net: blocks equal to the published ones, empty regions, gradients."""

import pytest
import torch
from d2rnet.channel_prior import ChannelPriorAttention
from d2rnet.published import CONVOLUTIONS, PRIOR, REGIONS, visual_names
from d2rnet.regions import LERA, RegionEncoder
from d2rnet.visual import VisualSide

from common.published_decoder import load_into, rename
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
    side = VisualSide(region_channels=3).eval()
    load_into(side, visual_names(published_numbers.state_dict(case["entries"])))
    image, regions = (of(case["inputs"][name]) for name in ("images", "regions"))
    mask = torch.tensor([[True, False, True]])
    with torch.no_grad():
        seen, outputs = side(image, regions, mask), case["outputs"]
        published_numbers.check(side.prior(side.features(image)[3]), outputs["after_cpca"])
    published_numbers.check(seen.patches, outputs["patches"])
    published_numbers.check(seen.whole, outputs["global_vector"])
    published_numbers.check(seen.regions.masked_fill(~mask[:, :, None], 1e-8), outputs["regions"])
    with pytest.raises(ValueError, match="strange is no entry"):
        visual_names({"strange": image})
