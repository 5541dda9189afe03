import zipfile
from pathlib import Path

import pytest

from common.pack import pack

ROOT = Path(__file__).resolve().parents[1]


def test_zip_holds_code_configs_common_and_weights_but_no_data(tmp_path):
    bundle = tmp_path / "toy"
    for name in (
        "configs/metadata.json",
        "toy/network.py",
        "models/model.pt",
        "models/checkpoint.pt",
        "data/x.png",
        "eval/m.json",
    ):
        (bundle / name).parent.mkdir(parents=True, exist_ok=True)
        (bundle / name).write_text('{"version": "1.2.3"}')
    archive = pack(bundle, tmp_path / "dist")
    assert archive.name == "toy_v1.2.3.zip"
    names = set(zipfile.ZipFile(archive).namelist())
    assert {"toy/toy/network.py", "toy/models/model.pt", "toy/common/fusion.py", "toy/common/datasets/ddti.py"} <= names
    assert not any(part in name for name in names for part in ("checkpoint", "/data/", "/eval/", "__pycache__"))
    before = archive.read_bytes()
    assert pack(bundle, tmp_path / "dist").read_bytes() == before


def test_no_bundle_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"bundle: no file .*metadata.json.*pass a bundle's folder"):
        pack(tmp_path, tmp_path)
