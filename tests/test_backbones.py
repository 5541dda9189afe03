import pytest
import torch
from monai.networks.nets import resnet18
from safetensors.torch import save_file

from common.nn.backbones import ResNetFeatures, load_resnet


def torchvision_names(depth: int, width: int = 8) -> dict[str, torch.Tensor]:
    """A state dict with torchvision's names and colour filters, made from another network of ours."""
    torch.manual_seed(5)
    source = ResNetFeatures(depth=depth, in_channels=3, width=width).state_dict()
    named = {
        n.replace("stem.0.", "conv1.").replace("stem.1.", "bn1."): torch.rand_like(v.float()) for n, v in source.items()
    }
    return {**named, "fc.weight": torch.rand(10, 4), "fc.bias": torch.rand(10)}


@pytest.mark.parametrize(("depth", "deepest"), [(18, 64), (34, 64), (50, 256), (101, 256)])
def test_four_strides(depth, deepest):
    network = ResNetFeatures(depth=depth, width=8)
    features = network(torch.rand(2, 1, 64, 96))
    assert [tuple(f.shape[2:]) for f in features] == [(16, 24), (8, 12), (4, 6), (2, 3)]
    assert [f.shape[1] for f in features] == network.channels and features[3].shape[1] == deepest


@pytest.mark.parametrize("depth", [18, 50])
def test_every_published_key_is_used(depth):
    network = ResNetFeatures(depth=depth, in_channels=3, width=8)
    state = torchvision_names(depth)
    load_resnet(network, state, colour=True)
    loaded = list(network.state_dict().values())
    published = [value for name, value in state.items() if not name.startswith("fc.")]
    assert len(loaded) == len(published)
    assert all(torch.equal(a.float(), b) or a.dtype == torch.int64 for a, b in zip(loaded, published, strict=True))


def test_old_files_without_the_counters_of_batch_norms_are_read():
    state = torchvision_names(18)
    former = {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}
    assert len(former) < len(state)
    network = ResNetFeatures(depth=18, in_channels=3, width=8)
    load_resnet(network, former, colour=True)
    assert torch.equal(network.state_dict()["layer1.0.bn1.running_var"], state["layer1.0.bn1.running_var"])
    del former["layer1.0.bn1.running_var"]
    with pytest.raises(ValueError, match=r"1 entries missing \['layer1\.0\.bn1\.running_var'\]"):
        load_resnet(network, former, colour=True)


def test_keys_are_torchvisions():
    """MONAI's full ResNet-18 has torchvision's names; ours differs in the stem alone."""
    full = resnet18(
        spatial_dims=2, n_input_channels=3, bias_downsample=False, conv1_t_stride=2, shortcut_type="B", num_classes=1000
    )
    load_resnet(ResNetFeatures(depth=18, in_channels=3), full.state_dict(), colour=True)
    assert {
        "conv1.weight",
        "bn1.running_var",
        "layer4.1.conv2.weight",
        "layer2.0.downsample.1.bias",
    } <= full.state_dict().keys()


def test_grey_images_get_the_sum_of_the_colour_filters():
    state = torchvision_names(18)
    network = ResNetFeatures(depth=18, in_channels=3, width=8)
    load_resnet(network, state)
    filters = network.stem[0].weight
    torch.testing.assert_close(filters[:, 0], state["conv1.weight"].sum(1))
    assert (filters[:, 1:] == 0).all()


def test_weights_from_files(tmp_path):
    state = torchvision_names(18)
    torch.save(state, tmp_path / "w.pth")
    save_file({n: v.contiguous() for n, v in state.items()}, tmp_path / "w.safetensors")
    image = torch.rand(1, 1, 32, 32)
    outputs = [
        ResNetFeatures(depth=18, width=8, weights=str(tmp_path / name)).eval()(image)[3]
        for name in ("w.pth", "w.safetensors")
    ]
    assert torch.equal(*outputs)


def test_a_pickle_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("ran",))

    torch.save({"conv1.weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(Exception, match=r"[Ww]eights"):
        ResNetFeatures(depth=18, weights=str(tmp_path / "evil.pth"))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"depth": 20}, ValueError, "depth: 20 is none of"),
        ({"weights": "none.pth"}, FileNotFoundError, "weights: no file 'none.pth'"),
        ({"weights": "imagenet"}, ValueError, "weights: 'imagenet' is neither a file nor one of"),
    ],
)
def test_bad_arguments_are_named(arguments, error, message):
    with pytest.raises(error, match=message):
        ResNetFeatures(**{"depth": 18, **arguments})


def test_weights_that_do_not_fit_are_refused(tmp_path):
    torch.save(torchvision_names(18), tmp_path / "w.pth")
    with pytest.raises(ValueError, match="weights: they do not fit"):
        ResNetFeatures(depth=34, width=8, weights=str(tmp_path / "w.pth"))


def test_an_unreachable_download_says_what_to_do(monkeypatch):
    def refuse(*_, **__):
        raise OSError("no network")

    monkeypatch.setattr(torch.hub, "load_state_dict_from_url", refuse)
    with pytest.raises(ValueError, match=r"could not be fetched .*resnet18-f37072fd.pth"):
        ResNetFeatures(depth=18, weights="ResNet18_Weights.IMAGENET1K_V1")
