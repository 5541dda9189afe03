"""Which image the server gives to be labelled next."""

import json

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("monailabel")
from label_app.least_certain import MOST, LeastCertain

SEGMENTERS = ("akessfa", "clip_tnseg")


@pytest.mark.parametrize("name", SEGMENTERS)
def test_the_image_of_the_lowest_confidence_is_given_and_then_another(server, name):
    images = sorted(server.get("/datastore/?output=all").json()["objects"])
    confidences = {}
    for image in images:
        text = {"report": ""} if name == "akessfa" else {}
        form = {"params": (None, json.dumps(text))}
        answer = server.post(f"/infer/{name}?image={image}&output=json", files=form).json()
        confidences[image] = answer["confidence"] or 0.0
    first, second = (server.post(f"/activelearning/least_certain_{name}", json={}).json() for _ in range(2))
    assert confidences[first["id"]] == pytest.approx(min(confidences.values()), abs=1e-3)
    assert first["weight"] == pytest.approx(1 - min(confidences.values()), abs=1e-3)
    assert second["id"] != first["id"] and confidences[second["id"]] <= sorted(confidences.values())[1] + 1e-3


class Segmenter:
    """Confident by the grey value of an image."""

    name, text = "segmenter", None

    def __init__(self, weights):
        self.weights, self.asked = weights, []

    def __call__(self, picture, text):
        self.asked.append(picture)
        return {"confidence": np.asarray(Image.open(picture)).mean() / 255}, None


class Archive:
    def __init__(self, folder, count):
        self.folder, self.labelled, self.info = folder, set(), {}
        self.images = [f"{n}.png" for n in range(count)]
        for n, name in enumerate(self.images):
            Image.new("L", (16, 16), 2 * n + 10).save(folder / name)

    def get_unlabeled_images(self, *_):
        return [image for image in self.images if image not in self.labelled]

    def get_image_uri(self, image):
        return str(self.folder / image)

    def get_image_info(self, image):
        return self.info.get(image, {})


def test_a_large_archive_is_looked_at_by_and_by_and_anew_with_other_weights(tmp_path, caplog):
    (tmp_path / "model.pt").write_bytes(b"1")
    archive, segmenter = Archive(tmp_path, 2 * MOST), Segmenter(tmp_path / "model.pt")
    (tmp_path / "0.png").write_bytes(b"damaged")
    choose = LeastCertain(segmenter)
    for _ in range(3):
        choice = choose({"strategy": "x"}, archive)
    assert choice["id"] == "1.png" and len(choose.confidences) == 2 * MOST - 1
    assert "0.png: left out" in caplog.text
    archive.labelled.add("1.png")
    assert choose({"strategy": "x"}, archive)["id"] == "2.png"
    before = len(segmenter.asked)
    choose({"strategy": "x"}, archive)
    assert len(segmenter.asked) == before
    (tmp_path / "model.pt").touch()
    choose({"strategy": "x"}, archive)
    assert len(segmenter.asked) == before + MOST or len(segmenter.asked) == before + MOST - 1
    archive.labelled.update(archive.images)
    assert choose({"strategy": "x"}, archive) is None
