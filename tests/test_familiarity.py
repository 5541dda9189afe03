"""Familiarity: calibrated on images of the training's kind, low for others, told and refused everywhere."""

import json

import numpy as np
import pytest
import torch
from monai.data import Dataset
from PIL import Image
from torch import nn

from common import predict
from common.cli.predict import main
from common.engine.familiarity import FitFamiliarity, PooledFeatures, TellFamiliarity, file_of
from common.metrics.familiarity import UNFAMILIAR, UNLIKE, Familiarity
from tests.test_bundle_contract import BUNDLES, PLACES, TINY, checked, flags
from tests.warm import monai_bundle, on_ranks

NOISE = np.random.default_rng(0).integers(0, 256, (200, 240)).astype(np.uint8)


@pytest.fixture(scope="module")
def known():
    rng = np.random.default_rng(0)
    mixing = rng.normal(size=(6, 6))
    training, held_out = rng.normal(size=(400, 6)) @ mixing, rng.normal(size=(300, 1, 6)) @ mixing
    return Familiarity.fit(training, list(held_out)), mixing


def test_five_percent_of_images_of_the_same_kind_are_warned_of(known):
    familiarity, mixing = known
    fresh = np.random.default_rng(1).normal(size=(2000, 1, 6)) @ mixing
    shares = np.array([familiarity(views) for views in fresh])
    assert ((shares > 0) & (shares <= 1)).all()
    assert 0.02 < (shares < UNFAMILIAR).mean() < 0.09
    assert abs(np.median(shares) - 0.5) < 0.08


def test_it_falls_with_the_distance_in_each_direction_by_its_own_spread(known):
    familiarity, mixing = known
    direction = np.ones((1, 6)) @ mixing
    shares = [familiarity(direction * step) for step in (0, 1, 2, 4, 8, 16)]
    assert shares == sorted(shares, reverse=True) and shares[0] > 0.5 and shares[-1] < shares[-2] < 0.01
    narrow, wide = np.linalg.svd(mixing)[2][[-1, 0]]
    length = np.linalg.norm(wide @ np.linalg.inv(mixing)) ** -1
    assert familiarity(wide[None] * length * 4) > familiarity(narrow[None] * length * 4)


def test_a_case_is_as_familiar_as_its_least_familiar_view(known):
    familiarity, mixing = known
    near, far = np.zeros((1, 6)), 9 * np.ones((1, 6)) @ mixing
    assert familiarity(np.concatenate([near, far])) == pytest.approx(familiarity(far))
    assert familiarity(far) < familiarity(near)


def test_it_is_kept_with_the_weights_that_it_belongs_to(known, tmp_path):
    familiarity, mixing = known
    path = tmp_path / "familiarity.safetensors"
    familiarity.save(path, weights="abc")
    views = np.ones((1, 6)) @ mixing
    assert Familiarity.load(path, weights="abc")(views) == pytest.approx(familiarity(views), abs=1e-4)
    assert Familiarity.load(path, weights="other") is None
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(ValueError, match=r"familiarity: .*is damaged.*; fit it anew, or remove it"):
        Familiarity.load(path, weights="abc")


@pytest.mark.parametrize(("images", "cases"), [(9, 20), (10, 19)])
def test_too_few_images_are_refused(images, cases):
    with pytest.raises(ValueError, match=f"{images} training images and {cases} cases held out; it needs 10 and 20"):
        Familiarity.fit(np.zeros((images, 2)), [np.zeros((1, 2))] * cases)


class Network(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.Conv2d(1, 4, 3)

    def image_features(self):
        return self.encoder, lambda image: self.encoder(image.flatten(0, -4))


@pytest.fixture
def trained(tmp_path):
    """A network with its file of weights, and data sets of bright images, with two views, one of which is none."""
    torch.manual_seed(0)
    network, weights = Network(), tmp_path / "model.pt"
    torch.save(network.state_dict(), weights)
    mask = torch.tensor([True, False])
    data = [{"image": torch.stack([1 + torch.rand(1, 16, 16), torch.zeros(1, 16, 16)]), "view_mask": mask}
            for _ in range(60)]  # fmt: skip
    return network, str(weights), data


def fit(network, weights, data, training=40):
    class Evaluator:
        class data_loader:
            dataset = Dataset(data[40:], transform=lambda case: case)

    dataset = Dataset(data[:training], transform=None)
    FitFamiliarity(network=network, dataset=dataset, evaluator=Evaluator, weights=weights).fit()


def test_fitted_to_views_that_are_there(trained):
    network, weights, data = trained
    fit(*trained)
    tell = TellFamiliarity(network=network, weights=weights)
    dark_first = torch.stack([torch.zeros(1, 16, 16), 1 + torch.rand(1, 16, 16)])
    strange = {"image": dark_first, "view_mask": data[0]["view_mask"]}
    batch = [data[45], strange, data[46]]
    tell.features.forget()
    network.encoder(torch.stack([case["image"] for case in batch]).flatten(0, 1))
    network.encoder(torch.rand(2, 1, 16, 16))  # what passes later in a batch, such as mirrored images
    first, second, third = tell.of_batch(batch)
    assert first.keys() == {"familiarity"} and second == {"familiarity": second["familiarity"], "warning": UNLIKE}
    assert min(first["familiarity"], third["familiarity"]) > UNFAMILIAR > second["familiarity"]


def test_other_weights_have_none(trained, caplog):
    network, weights, _ = trained
    fit(*trained)
    torch.save({key: value + 1 for key, value in network.state_dict().items()}, weights)
    assert TellFamiliarity(network=network, weights=weights).known is None
    assert "belongs to other weights" in caplog.text
    with pytest.raises(FileNotFoundError, match=r"refuse_unfamiliar: no file .*familiarity.safetensors"):
        TellFamiliarity(network=network, weights=weights, refuse=True)


def test_few_images_and_odd_features_end_no_training(trained, caplog):
    network, weights, data = trained
    fit(network, weights, data, training=5)
    fit(network, weights, data[:45])
    with torch.no_grad():
        network.encoder.weight.fill_(float("nan"))
    torch.save(network.state_dict(), weights)
    fit(network, weights, data)
    assert not file_of(weights).exists() and caplog.text.count("familiarity: not fitted (") == 3


def test_tokens_and_maps_are_pooled():
    class Tokens(nn.Module):
        def forward(self, x):
            return [x.flatten(2).transpose(1, 2), x.flatten(2).transpose(1, 2) + 1]

    class Of:
        def image_features(self):
            return module, module

    module = Tokens()
    features = PooledFeatures(Of())
    image = torch.rand(2, 3, 4, 4)
    module(image)
    (first, _) = features.of_cases([{"image": part} for part in image])
    np.testing.assert_allclose(first[0], image[0].mean((1, 2)), rtol=1e-6)


@pytest.mark.parametrize("bundle", BUNDLES)
def test_noise_is_warned_of_and_refused(bundle, tmp_path):
    result = predict.load(bundle, device="cpu")(NOISE)
    assert result.familiarity < UNFAMILIAR and result.warning == UNLIKE and UNLIKE in result.line()
    folder = result.save(tmp_path / "warned")
    assert "This image is unlike the training images" in (folder / "index.html").read_text()
    (entry,) = json.loads((folder / "predictions.json").read_text())
    assert entry["familiarity"] == result.familiarity and entry["warning"] == UNLIKE
    refusal = predict.load(bundle, device="cpu", refuse_unfamiliar=True)(NOISE)
    assert isinstance(refusal, predict.Refusal) and refusal.pictures() == {} and UNLIKE in refusal._repr_html_()
    saved = refusal.save(tmp_path / "refused")
    (entry,) = json.loads((saved / "predictions.json").read_text())
    assert entry.keys() - {"image", "study"} == {"familiarity", "warning"}
    assert "This image is unlike the training images" in (saved / "index.html").read_text()
    assert {file.name for file in saved.iterdir()} == {"predictions.json", "index.html", "page.json"}


def test_refused_by_inference_and_by_the_command(tmp_path, caplog):
    file = tmp_path / "noise.png"
    Image.fromarray(NOISE).save(file)
    config, out = "bundles/hfcn/configs/inference.json", tmp_path / "out"
    options = flags({"image": file, "refuse_unfamiliar": "true"}, output_dir=out)
    checked(monai_bundle("run", "--config_file", config, *options), 0)
    (entry,) = json.loads((out / "predictions.json").read_text())
    assert entry.keys() == {"image", "familiarity", "warning"}
    caplog.set_level("INFO")
    assert main(["hfcn", str(file), "--out", str(tmp_path / "again"), "--refuse-unfamiliar"]) == 0
    assert f"{file}: {UNLIKE}" in caplog.messages


@pytest.mark.parametrize("ranks", [1, 2])
def test_a_training_leaves_it_beside_its_weights(ranks, tmp_path):
    tiny = TINY["hfcn"]
    places = {name: tmp_path / place for name, place in PLACES.items()}
    data = {**tiny["data"], "synthetic#reports": 60}
    options = flags(tiny["network"], data, places, {**tiny["train"], "epochs": 1})
    arguments = ["run", "--config_file", "bundles/hfcn/configs/train.json", *options]
    done = [monai_bundle(*arguments)] if ranks == 1 else on_ranks(ranks, *arguments)
    assert sum("familiarity: fitted to" in checked(rank, 0).stdout for rank in done) == 1
    assert file_of(tmp_path / "models" / "model.pt").is_file()
    image = tmp_path / "synthetic" / tiny["image"]
    options = flags(tiny["network"], ckpt_dir=tmp_path / "models", output_dir=tmp_path / "out", image=image)
    checked(monai_bundle("run", "--config_file", "bundles/hfcn/configs/inference.json", *options), 0)
    (entry,) = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert 0 < entry["familiarity"] <= 1
