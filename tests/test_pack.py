import json
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
from monai.bundle import download_large_files

from common import predict
from common.pack import pack

ROOT = Path(__file__).resolve().parents[1]
STAYS = (
    "models/checkpoint.pt", "models/history.csv", "models/labels/topics.json", "models/labels/distiller.npz",
    "models/clip/history.csv", "models/clip/training.csv", "models/mine.pt", "data/x.png", "eval/metrics.json",
    "eval/index.html", "eval_detector/index.html", "eval/mlruns.db", "mlruns.db", "finetuned/model.pt",
    "docs/notes.docx", "docs/patients/a.png", "configs/monailabel_train.json", "configs/cases.csv", "toy/report.json",
    "toy/__pycache__/a.pyc",
    "models/tokenizer.json.12.part", "index.html", "patients.csv", "models/sub/model.pt",
)  # fmt: skip
GOES = (
    "LICENSE", "configs/metadata.json", "configs/train.json", "configs/ablations/a.json", "docs/README.md",
    "docs/a.png", "toy/network.py", "toy/report/network.py", "models/model.pt", "models/tokenizer.json",
    "models/detector.pt", "models/clip/model.safetensors", "models/clip/config.json",
)  # fmt: skip


@pytest.fixture
def toy(tmp_path):
    bundle = tmp_path / "toy"
    for name in (*STAYS, *GOES):
        (bundle / name).parent.mkdir(parents=True, exist_ok=True)
        (bundle / name).write_text('{"version": "1.2.3"}')
    return bundle


def names_of(archive):
    return set(zipfile.ZipFile(archive).namelist())


def test_only_what_is_listed_goes_along(toy, tmp_path):
    archive = pack(toy, tmp_path / "dist")
    assert archive.name == "toy_v1.2.3.zip"
    names = {name for name in names_of(archive) if not name.startswith("toy/common/")}
    assert names == {f"toy/{name}" for name in GOES}
    assert {
        f"toy/common/{name}"
        for name in ("nn/fusion.py", "results/page.html.j2", "metrics/entities.json", "metrics/observations.json")
    } <= names_of(archive)
    before = archive.read_bytes()
    assert pack(toy, tmp_path / "dist").read_bytes() == before


def test_what_comes_from_training_reports_goes_along_when_asked_for_by_name(toy, tmp_path):
    archive = pack(toy, tmp_path, include=["models/labels/topics.json"])
    assert "toy/models/labels/topics.json" in names_of(archive)
    assert "toy/models/labels/distiller.npz" not in names_of(archive)


def test_weights_may_lie_elsewhere(toy, tmp_path):
    away = tmp_path / "away" / "models"
    shutil.copytree(toy / "models", away)
    archive = pack(toy, tmp_path / "dist", weights_url=(tmp_path / "away").as_uri())
    held = names_of(archive)
    assert "toy/models/model.pt" not in held and "toy/models/tokenizer.json" in held
    zipfile.ZipFile(archive).extractall(tmp_path / "new")
    if not (tmp_path / "new" / "toy" / "configs" / "inference.json").is_file():
        (tmp_path / "new" / "toy" / "configs" / "inference.json").write_text("{}")
    with pytest.raises(FileNotFoundError, match=r"lie elsewhere; unpack it and run .* download_large_files"):
        predict.load(tmp_path / "new" / "toy")
    download_large_files(str(tmp_path / "new" / "toy"))
    for name in ("model.pt", "detector.pt", "clip/model.safetensors"):
        assert (tmp_path / "new" / "toy" / "models" / name).read_bytes() == (away / name).read_bytes()
    (away / "model.pt").write_text("of another training")
    (tmp_path / "new" / "toy" / "models" / "model.pt").unlink()
    with pytest.raises(Exception, match="sha256 hash check"):
        download_large_files(str(tmp_path / "new" / "toy"))


@pytest.mark.parametrize("name", ["models/none.pt", "../secret.txt", "models"])
def test_only_files_of_the_bundle_can_be_asked_for(toy, tmp_path, name):
    (tmp_path / "secret.txt").write_text("x")
    with pytest.raises(FileNotFoundError, match=r"include: no file .* in "):
        pack(toy, tmp_path / "dist", include=[name])


def test_a_link_is_not_followed(toy, tmp_path):
    outside = tmp_path / "patient.png"
    outside.write_bytes(b"pixels of a patient")
    (toy / "docs" / "x.png").symlink_to(outside)
    with zipfile.ZipFile(pack(toy, tmp_path / "dist")) as archive:
        assert not [name for name in archive.namelist() if name.endswith("x.png")]


def test_no_bundle_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"bundle: no file .*metadata.json.*pass a bundle's folder"):
        pack(tmp_path, tmp_path)


@pytest.mark.parametrize("name", [path.parents[1].name for path in ROOT.glob("bundles/*/configs/metadata.json")])
def test_everything_that_belongs_to_a_bundle_is_packed(name, tmp_path):
    listing = subprocess.run(
        ["git", "ls-files", f"bundles/{name}"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    tracked = {Path(line).relative_to("bundles").as_posix() for line in listing.stdout.splitlines()}
    assert tracked <= names_of(pack(ROOT / "bundles" / name, tmp_path))
    assert json.loads((ROOT / "bundles" / name / "configs" / "metadata.json").read_text())["version"]
