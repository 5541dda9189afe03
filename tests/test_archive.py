"""A TorchScript archive alone is enough: sizes, tokenizer and metadata lie in it."""

import json
import shutil
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer

from common import predict
from common.cli.trained import find
from common.text.encoding import encode_report
from common.text.tokenizer import ReportTokenizer
from tests.test_bundle_contract import BUNDLES, TINY, checked, train_tiny
from tests.test_shipped_weights import lobe
from tests.warm import ROOT, monai_bundle

EXTRA = ("inference.json", "tokenizer.json", "metadata.json")


def archive_of(bundle, folder):
    config = f"bundles/{bundle}/configs/inference.json"
    checked(monai_bundle("run", "--run_id", "export_torchscript", "--config_file", config, "--ckpt_dir", folder), 0)
    files = dict.fromkeys(EXTRA, "")
    return torch.jit.load(folder / "model.ts", _extra_files=files), files


@pytest.mark.parametrize("bundle", BUNDLES)
def test_an_archive_holds_its_settings_and_its_tokenizer(bundle, tmp_path):
    shutil.copytree(ROOT / "bundles" / bundle / "models", tmp_path / "models")
    _, files = archive_of(bundle, tmp_path / "models")
    config = json.loads(files["inference.json"])
    known = json.loads((tmp_path / "models" / "model.json").read_text())["settings"]
    assert known and all(config[id] == value for id, value in known.items() if id in config)
    metadata = json.loads((ROOT / "bundles" / bundle / "configs" / "metadata.json").read_text())
    assert json.loads(files["metadata.json"]).items() >= metadata.items()
    assert bool(files["tokenizer.json"]) == ("tokenizer_path" in config)
    answers_as_the_bundle(tmp_path / "models" / "model.ts", bundle)


def test_an_archive_brings_its_own_weights_and_tokenizer(tmp_path):
    models = tmp_path / "models"
    shutil.copytree(ROOT / "bundles" / "akessfa" / "models", models)
    state = torch.load(models / "model.pt", weights_only=True)
    torch.save({name: 0.9 * value if value.is_floating_point() else value for name, value in state.items()},
               models / "model.pt")  # fmt: skip
    (models / "model.json").unlink()
    (models / "report_tokenizer.json").rename(tmp_path / "words.json")
    config = "bundles/akessfa/configs/inference.json"
    given = ("--config_file", config, "--ckpt_dir", models, "--tokenizer_path", tmp_path / "words.json")
    checked(monai_bundle("run", "--run_id", "export_torchscript", *given), 0)
    trained = find(models / "model.ts")
    assert (trained.models / "model.pt").read_bytes() == (models / "model.pt").read_bytes()
    assert (trained.models / "report_tokenizer.json").read_bytes() == (tmp_path / "words.json").read_bytes()
    answers = [predict.load(of)(lobe()[0], report="A round nodule.") for of in (models / "model.ts", "akessfa")]
    assert answers[0].confidence != answers[1].confidence


def answers_as_the_bundle(archive, bundle):
    image = archive.parent / "lobe.png"
    Image.fromarray(lobe()[0]).save(image)
    assert predict.load(archive)(image).to_dict() == predict.load(bundle)(image).to_dict()


def test_pt2_answers_as_the_bundle_that_was_trained(tmp_path):
    folder, _ = train_tiny("hfcn", tmp_path)
    config = "bundles/hfcn/configs/inference.json"
    given = ("--config_file", config, "--ckpt_dir", folder / "models")
    checked(monai_bundle("run", "--run_id", "export_program", *given), 0)
    (folder / "configs").symlink_to(ROOT / "bundles" / "hfcn" / "configs")
    (folder / "hfcn").symlink_to(ROOT / "bundles" / "hfcn" / "hfcn")
    answers_as_the_bundle(folder / "models" / "model.pt2", folder)
    assert torch.export.load(folder / "models" / "model.pt2").state_dict


@pytest.mark.parametrize("suffix", ["ts", "pt2"])
def test_other_archives_are_refused(suffix, tmp_path):
    archive = tmp_path / f"model.{suffix}"
    archive.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=r"model\.\w+' is damaged .* export it anew"):
        predict.load(archive)
    torch.jit.save(torch.jit.script(torch.nn.ReLU()), archive)
    with pytest.raises(ValueError, match=r"model\.\w+' holds no bundle's trained files; export it anew"):
        predict.load(archive)


def test_no_file_of_an_archive_leaves_its_folder(tmp_path):
    archive = tmp_path / "model.ts"
    with zipfile.ZipFile(archive, "w") as whole:
        whole.writestr("m/bundle/bundle.json", '{"name": "../../akessfa"}')
        for name in ("model.pt", "../../escaped", "configs/inference.json"):
            whole.writestr(f"m/bundle/{name}", "{}")
    with pytest.raises(ValueError, match=r"is of '\.\./\.\./akessfa', and no bundle of that name is installed here"):
        find(archive)
    with zipfile.ZipFile(archive, "a") as whole:
        whole.writestr("n/bundle/bundle.json", '{"name": "akessfa"}')
    trained = find(archive)
    assert [file.name for file in trained.models.iterdir()] == ["model.pt"]
    assert trained.folder == ROOT / "bundles" / "akessfa"


@pytest.mark.parametrize("name", ["evil", "akessfa"])
def test_a_folder_beside_an_archive_is_not_its_bundle(name, tmp_path, monkeypatch):
    for part in (name, f"{name}/{name}"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "__init__.py").touch()
    (tmp_path / name / "configs").mkdir()
    (tmp_path / name / "configs" / "inference.json").write_text("{}")
    with zipfile.ZipFile(tmp_path / "model.ts", "w") as whole:
        whole.writestr("m/bundle/bundle.json", json.dumps({"name": name}))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    if name == "akessfa":
        assert find("model.ts").folder == ROOT / "bundles" / "akessfa"
    else:
        with pytest.raises(ValueError, match="is of 'evil', and no bundle of that name is installed here"):
            find("model.ts")


def test_sizes_are_those_of_the_training(tmp_path):
    folder, _ = train_tiny("hfcn", tmp_path)
    _, files = archive_of("hfcn", folder / "models")
    assert json.loads(files["inference.json"])["image_size"] == TINY["hfcn"]["network"]["image_size"] != 192


def test_from_the_archive_alone_an_image_is_segmented_by_its_report(tmp_path):
    shutil.copytree(ROOT / "bundles" / "akessfa" / "models", tmp_path / "models")
    network, files = archive_of("akessfa", tmp_path / "models")
    report = "A medium-sized round nodule lies in the central part. The isthmus is normal."
    size = json.loads(files["inference.json"])["image_size"]
    ids = Tokenizer.from_str(files["tokenizer.json"].decode()).encode(report).ids
    own = encode_report(ReportTokenizer.load(str(tmp_path / "models" / "report_tokenizer.json")), report, 128)
    assert [i for i in ids if i > 3] == [i for i in own.input_ids if i > 3]
    image, inside = lobe()
    pixels = np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BILINEAR), dtype=np.float32) / 255
    with torch.no_grad():
        logits = network(torch.from_numpy(pixels.T.copy())[None, None], torch.tensor([ids]))
    mask = np.asarray(Image.fromarray(np.asarray(logits[0, 0].T > 0)).resize(image.shape[::-1]))
    assert 2 * (mask & inside).sum() / (mask.sum() + inside.sum()) > 0.6
