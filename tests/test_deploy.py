"""MONAI Deploy's bundle operator, as a stub: a bundle's folder, images as arrays, no transform that loads or saves."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from monai.transforms import MapTransform
from PIL import Image

from tests.test_bundle_contract import ROOT, TINY

SIZE = (80, 112)  # height, width


class Operator:
    """What the SDK's operator does with a folder: config and metadata, pre-processing, network, post-processing."""

    def __init__(self, folder, sizes):
        sys.path.insert(0, str(folder))
        parser = ConfigParser()
        parser.read_meta(str(folder / "configs" / "metadata.json"))
        parser.read_config([str(folder / "configs" / "inference.json")])
        for name, value in sizes.items():
            parser[name] = value
        self.device = parser.get_parsed_content("device")
        self.inferer = parser.get_parsed_content("inferer")
        told = parser["_meta_"]["network_data_format"]
        self.inputs, self.output = list(told["inputs"]), told["outputs"]["pred"]
        self.before, self.after = (self.without_files(parser.get_parsed_content(name))
                                   for name in ("preprocessing", "postprocessing"))  # fmt: skip
        self.network = parser.get_parsed_content("network").eval()

    @staticmethod
    def without_files(compose):
        """Transforms but those whose class is named after loading or saving of images."""
        kept = [t for t in compose.transforms if not any(n in type(t).__name__ for n in ("LoadImage", "SaveImage"))]
        compose.transforms = tuple(kept)
        return compose

    def __call__(self, image, meta, **others):
        data = {"image": MetaTensor.ensure_torch_and_prune_meta(image, dict(meta)), **others}
        assert isinstance(self.before.transforms[0], MapTransform)
        data = self.before(data)
        first = data["image"]
        inputs = {name: data[name][None].to(self.device) for name in self.inputs[1:] if name in data}
        with torch.no_grad():
            pred = self.inferer(inputs=data["image"][None].to(self.device), network=self.network, **inputs)
        if self.after.transforms:
            pred = self.after({"pred": pred[0], "image": first, **inputs})["pred"]
        if self.output["type"] != "image":
            return pred.cpu().numpy()
        mask = np.squeeze(pred.cpu().numpy(), 0)
        return (mask if mask.ndim == 2 else np.swapaxes(mask, 0, 2)).astype(np.uint8)


class Bright(torch.nn.Module):
    """Marks what is bright, whatever the text."""

    def forward(self, image, *_, **__):
        grey = image[:, :1]
        return (grey - (grey.amax((1, 2, 3), keepdim=True) + grey.amin((1, 2, 3), keepdim=True)) / 2) * 100


@pytest.fixture
def operator_of(tmp_path, monkeypatch):
    def build(bundle):
        monkeypatch.setattr(sys, "path", [*sys.path])
        sizes = TINY[bundle]["network"] | {"image_size": 64}
        if bundle == "akessfa":
            from common.text.tokenizer import ReportTokenizer

            ReportTokenizer.of_words(["nodule"]).save(tmp_path / "report_tokenizer.json")
            sizes["tokenizer_path"] = str(tmp_path / "report_tokenizer.json")
        if bundle == "clip_tnseg":
            from clip_tnseg import phrase_tokenizer

            sizes["tokenizer_path"] = str(tmp_path / "tokenizer.json")
            tokenizer = phrase_tokenizer.fit(["an ultrasound image of a thyroid nodule"])
            phrase_tokenizer.save(tokenizer=tokenizer, path=sizes["tokenizer_path"])
        return Operator(ROOT / "bundles" / bundle, sizes)

    return build


def corner():
    """An image (H, W) whose upper right is bright, and where."""
    pixels = np.full(SIZE, 20, dtype=np.float32)
    pixels[8:32, 72:104] = 230
    return pixels, pixels > 100


FORMS = {
    "rows and columns": (lambda pixels: pixels, lambda mask: mask),
    "a DICOM slice, columns first": (lambda pixels: pixels.T[..., None], lambda mask: mask[0]),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("bundle", ["akessfa", "clip_tnseg"])
def test_a_mask_lies_on_its_image(operator_of, bundle, form):
    operator = operator_of(bundle)
    operator.network = Bright()
    pixels, truth = corner()
    arrange, back = FORMS[form]
    mask = back(operator(arrange(pixels), {"affine": np.eye(4)}))
    assert mask.shape == SIZE
    overlap = (truth & (mask > 0)).sum() / (truth | (mask > 0)).sum()
    assert overlap > 0.9, overlap


@pytest.mark.parametrize("bundle", ["akessfa", "clip_tnseg", "hfcn"])
def test_an_array_is_seen_as_its_file(operator_of, bundle, tmp_path):
    operator = operator_of(bundle)
    pixels = np.random.default_rng(0).integers(0, 256, SIZE).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    text = {"report": "", "phrase": "nodule", "prompt": "an ultrasound image of a nodule"}
    from_file = operator.before({"image": str(tmp_path / "a.png"), **text})["image"]
    for array in (pixels, pixels.astype(np.float32), pixels.T[..., None].astype(np.int16)):
        seen = operator.before({"image": MetaTensor(torch.as_tensor(array)), **text})["image"]
        torch.testing.assert_close(seen.as_tensor(), from_file.as_tensor())


def test_ids_that_were_made_before_reach_the_network(operator_of):
    operator = operator_of("akessfa")
    seen = SimpleNamespace(ids=None)

    class Remember(Bright):
        def forward(self, image, input_ids, attention_mask, sentence_ids):
            seen.ids = input_ids
            return super().forward(image)

    operator.network = Remember()
    ids = torch.tensor([4, 4, 4])
    operator(corner()[0], {}, input_ids=ids, attention_mask=torch.ones_like(ids), sentence_ids=torch.zeros_like(ids))
    assert seen.ids.tolist() == [[4, 4, 4]]


def test_the_classifier_answers_with_log_probabilities(operator_of):
    pred = operator_of("hfcn")(corner()[0], {})
    assert pred.shape == (1, 2) and np.exp(pred).sum() == pytest.approx(1, abs=1e-4)


def test_an_array_of_another_shape_is_one_line(operator_of):
    with pytest.raises(RuntimeError) as error:
        operator_of("akessfa").before({"image": np.zeros((4, 8, 8)), "report": ""})
    assert "an array of shape (4, 8, 8); expected (H, W), or (W, H, 1)" in str(error.value.__cause__)
