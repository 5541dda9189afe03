"""The segmenters in MONAI Label's own ``monaibundle`` app: nothing of ``label_app`` but the shim."""

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("monailabel", reason="make test-label runs these")

import nibabel
from monailabel.config import settings
from monailabel.interfaces.utils.app import app_instance
from PIL import Image

STOCK = Path(sys.prefix) / "monailabel" / "sample-apps" / "monaibundle"
TEXT = {"akessfa": {"report": "A hypoechoic round nodule is seen in the upper left part."}, "clip_tnseg": {}}


@pytest.fixture(scope="module")
def stock(bundles, tmp_path_factory):
    """The app with both segmenters, over images that are wider than high."""
    folder = tmp_path_factory.mktemp("stock")
    app, studies = folder / "app", folder / "studies"
    shutil.copytree(STOCK, app)
    for name in TEXT:
        copy = app / "model" / f"{name}_segmentation"
        shutil.copytree(bundles / name, copy)
        config = copy / "configs" / "train.json"
        config.write_text(json.dumps(json.loads(config.read_text()) | {"batch_size": 16}))
    studies.mkdir()
    sources = sorted((bundles / "akessfa" / "data" / "synthetic" / "images").glob("*.png"))[:10]
    for number, source in enumerate(sources):
        wide = np.asarray(Image.open(source).resize((96, 64)))
        Image.fromarray(wide).save(studies / f"p{number}.png")
        if number == 0:
            nibabel.save(nibabel.Nifti1Image(wide.T[..., None], np.diag([0.25, 0.5, 1, 1])), studies / "n0.nii.gz")
    settings.MONAI_LABEL_DATASTORE_AUTO_RELOAD = False
    names = ",".join(f"{name}_segmentation" for name in TEXT)
    conf = {"models": names, "zoo_source": "local", "sam2": "false"}
    return app_instance(str(app), str(studies), conf)


def infer(app, name, image):
    result = app.infer({"model": f"{name}_segmentation", "image": image, "device": "cpu", **TEXT[name]})
    return result["file"]


@pytest.mark.parametrize("name", TEXT)
def test_the_mask_has_the_images_size_and_place(stock, bundles, name, monkeypatch):
    assert stock.info()["models"][f"{name}_segmentation"]["labels"] == {"nodule": 1}
    png = np.asarray(Image.open(infer(stock, name, "p0")))
    assert png.shape == (64, 96) and png.dtype == np.uint8 and set(np.unique(png)) <= {0, 1}
    nifti = nibabel.load(infer(stock, name, "n0"))
    assert nifti.shape[:2] == (96, 64)
    np.testing.assert_allclose(nifti.affine, np.diag([0.25, 0.5, 1, 1]), atol=1e-5)
    assert (np.asarray(nifti.dataobj).reshape(96, 64).T > 0).astype(int).tolist() == (png > 0).astype(int).tolist()


@pytest.mark.parametrize("name", TEXT)
def test_a_bright_corner_stays_in_its_corner(stock, name, monkeypatch):
    """A network that marks what is bright shows whether pixels are turned, mirrored or moved."""
    import torch

    class Bright(torch.nn.Module):
        def forward(self, image):
            return (image[:, :1] - image[:, :1].amax((1, 2, 3), keepdim=True) / 2) * 100

    task = stock._infers[f"{name}_segmentation"]
    monkeypatch.setattr(task, "_get_network", lambda device, data: Bright())
    image = np.zeros((64, 96), dtype=np.uint8)
    image[4:20, 60:92] = 255
    folder = Path(stock.studies)
    Image.fromarray(image).save(folder / "corner.png")
    stock.datastore()._reconcile_datastore()
    mask = np.asarray(Image.open(infer(stock, name, "corner"))) > 0
    overlap = (mask & (image > 0)).sum() / (mask | (image > 0)).sum()
    assert overlap > 0.9, overlap


@pytest.mark.parametrize("name", TEXT)
def test_training_on_fewer_labelled_images_than_a_batch_writes_weights(stock, name):
    store, folder = stock.datastore(), Path(stock.studies)
    for number in range(6):
        mask = np.zeros((64, 96), dtype=np.uint8)
        mask[10:30, 20:60] = 1
        Image.fromarray(mask).save(folder.parent / "mask.png")
        store.save_label(f"p{number}", str(folder.parent / "mask.png"), "final", {})
    weights = Path(stock.models[f"{name}_segmentation"]) / "models" / "model.pt"
    before = weights.stat().st_mtime_ns
    request = {"model": f"{name}_segmentation", "device": "cpu", "max_epochs": 2, "multi_gpu": False, "val_split": 0.25}
    stock.train(request)
    assert weights.stat().st_mtime_ns > before
    assert json.dumps(stock.info(), default=str)
