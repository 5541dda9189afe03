"""Tiny bundles and a server for the tests of MONAI Label; only where MONAI Label is installed."""

from __future__ import annotations

import importlib.util
import os
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import requests
from PIL import Image

from tests.dicom_files import dicom_file, ultrasound_region

ROOT = Path(__file__).resolve().parents[2]
if importlib.util.find_spec("monailabel") is not None:
    sys.path.insert(0, str(ROOT / "label_app" / "shim"))
    sys.modules.pop("sitecustomize", None)
    import sitecustomize  # noqa: F401

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "HF_HUB_OFFLINE": "1",
    "PYTHONPATH": f"{ROOT / 'label_app' / 'shim'}{os.pathsep}{ROOT}",
}


@pytest.fixture(scope="session")
def bundles(tmp_path_factory) -> Path:
    """A folder with all bundles, tiny and trained; or the one that TINY_BUNDLES names, to go faster."""
    if "TINY_BUNDLES" in os.environ:
        return Path(os.environ["TINY_BUNDLES"])
    folder = tmp_path_factory.mktemp("bundles")
    command = [sys.executable, "-m", "label_app.examples", "--out", str(folder), "--sizes", "tests/tiny.json"]
    subprocess.run(command, cwd=ROOT, env={**os.environ, **ENVIRONMENT}, check=True, capture_output=True)
    return folder / "bundles"


@pytest.fixture(scope="session")
def studies(bundles, tmp_path_factory) -> Path:
    """Images of the synthetic thyroid data, and one chest X-ray."""
    folder = tmp_path_factory.mktemp("studies")
    for number, source in enumerate(sorted((bundles / "akessfa" / "data" / "synthetic" / "images").glob("*.png"))[:8]):
        Image.open(source).save(folder / f"us{number}.png")
    chest = next((bundles / "d2rnet" / "data" / "synthetic" / "images").glob("*.png"))
    Image.open(chest).save(folder / "chest.png")
    pixels = np.asarray(Image.open(folder / "us0.png").convert("L"))
    region = ultrasound_region(0, 0, pixels.shape[1] - 1, pixels.shape[0] - 1, millimetres=0.5)
    whole = {"WindowCenter": "127.5", "WindowWidth": "255", "SequenceOfUltrasoundRegions": [region]}
    dicom_file(folder.parent / "us0.dcm", pixels, **whole)
    return folder


class Server:
    """A running server, and its log."""

    def __init__(self, url: str, process: subprocess.Popen, log: Path) -> None:
        self.url, self.process, self.log = url, process, log

    def post(self, path: str, **options) -> requests.Response:
        return requests.post(self.url + path, timeout=120, **options)

    def get(self, path: str, **options) -> requests.Response:
        return requests.get(self.url + path, timeout=60, **options)

    def put(self, path: str, **options) -> requests.Response:
        return requests.put(self.url + path, timeout=60, **options)


def start(studies: Path, bundles: Path, log: Path, *, arguments: Sequence[str] = (), **environment: str) -> Server:
    """Start ``label_app.serve`` on a free port and wait for it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "label_app.serve", "--studies", str(studies), "--bundles", str(bundles),
               "--port", str(port), "--max_upload_mb", "2", *arguments]  # fmt: skip
    with open(log, "w") as file:
        process = subprocess.Popen(
            command, cwd=ROOT, env={**os.environ, **ENVIRONMENT, **environment}, stdout=file, stderr=subprocess.STDOUT
        )
    server = Server(f"http://127.0.0.1:{port}", process, log)
    for _ in range(360):
        try:
            server.get("/auth/" if environment.get("MONAI_LABEL_AUTH_ENABLE") else "/info/")
            return server
        except requests.ConnectionError:
            assert process.poll() is None, log.read_text()[-3000:]
            time.sleep(0.5)
    raise TimeoutError(log.read_text()[-3000:])


@pytest.fixture(scope="session")
def server(studies, bundles, tmp_path_factory):
    running = start(studies, bundles, tmp_path_factory.mktemp("log") / "server.log")
    yield running
    running.process.terminate()
    running.process.wait(20)
