"""A DICOM archive around the server: store, search, retrieve; masks and reports go back into it. Needs Orthanc."""

import json
import shutil
import socket
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("monailabel", reason="make test-label runs these")

import pydicom
import requests
from dicomweb_client.api import DICOMwebClient
from PIL import Image

from common.results.dicom import DicomResults
from common.results.findings import Finding
from tests.dicom_files import dicom_file, ultrasound_region
from tests.label.conftest import start

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
REPORT = {"report": "A hypoechoic round nodule is seen in the upper left part."}
pytestmark = pytest.mark.skipif(
    shutil.which("Orthanc") is None or not PLUGIN.exists(), reason="apt-get install orthanc orthanc-dicomweb"
)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Orthanc with its DICOMweb plugin, empty, on this machine alone."""
    folder = tmp_path_factory.mktemp("orthanc")
    with socket.socket() as first, socket.socket() as second:
        first.bind(("127.0.0.1", 0))
        second.bind(("127.0.0.1", 0))
        web, dicom = first.getsockname()[1], second.getsockname()[1]
    settings = {
        "StorageDirectory": str(folder), "IndexDirectory": str(folder), "Plugins": [str(PLUGIN)], "HttpPort": web,
        "HttpBindAddresses": ["127.0.0.1"], "RemoteAccessAllowed": False, "AuthenticationEnabled": False,
        "DicomPort": dicom, "DicomWeb": {"Enable": True, "Root": "/dicom-web/"}}  # fmt: skip
    (folder / "orthanc.json").write_text(json.dumps(settings))
    log = open(folder / "log", "w")  # noqa: SIM115
    process = subprocess.Popen(["Orthanc", str(folder / "orthanc.json")], stdout=log, stderr=log)
    for _ in range(60):
        try:
            requests.get(f"http://127.0.0.1:{web}/system", timeout=5)
            break
        except requests.ConnectionError:
            time.sleep(0.5)
    yield f"http://127.0.0.1:{web}/dicom-web"
    process.terminate()
    process.wait(20)
    log.close()


@pytest.fixture(scope="module")
def stored(archive, bundles, tmp_path_factory):
    """An ultrasound image in the archive, wider than high, with its calibration."""
    source = sorted((bundles / "akessfa" / "data" / "synthetic" / "images").glob("*.png"))[0]
    pixels = np.asarray(Image.open(source).convert("L").resize((96, 64)))
    region = ultrasound_region(0, 0, 95, 63, millimetres=0.5)
    whole = {"WindowCenter": "127.5", "WindowWidth": "255", "SequenceOfUltrasoundRegions": [region]}
    path = dicom_file(tmp_path_factory.mktemp("dicom") / "us.dcm", pixels, **whole)
    data = pydicom.dcmread(path)
    DICOMwebClient(archive).store_instances([data])
    return path, data


@pytest.fixture(scope="module")
def server(archive, stored, bundles, tmp_path_factory):
    folder = tmp_path_factory.mktemp("server")
    running = start(archive, bundles, folder / "log", MONAI_LABEL_DICOMWEB_CACHE_PATH=str(folder / "cache"))
    yield running
    running.process.terminate()
    running.process.wait(20)


def test_what_is_stored_is_found_and_retrieved_unchanged(archive, stored):
    client, data = DICOMwebClient(archive), stored[1]
    found = client.search_for_series(search_filters={"Modality": "US"})
    assert [Path(entry["0020000E"]["Value"][0]).name for entry in found] == [data.SeriesInstanceUID]
    (again,) = client.retrieve_series(data.StudyInstanceUID, data.SeriesInstanceUID)
    assert again.PixelData == data.PixelData and again.PatientID == data.PatientID


def test_every_kind_of_result_is_stored_and_retrieved(archive, stored, tmp_path):
    path, data = stored
    mask = np.zeros((64, 96), dtype=bool)
    mask[5:20, 60:90] = True
    results = DicomResults(folder=tmp_path, network="AKE-SSFA")
    written = results.write_findings(str(path), [Finding({"area_mm2": 10.0}, mask=mask)])
    written |= results.write_report("A nodule is seen.", [str(path)], "study")
    client = DICOMwebClient(archive)
    client.store_instances([pydicom.dcmread(tmp_path / name) for name in written.values()])
    found = client.search_for_instances(data.StudyInstanceUID)
    kinds = {entry["00080016"]["Value"][0] for entry in found}
    assert {pydicom.dcmread(tmp_path / name).SOPClassUID for name in written.values()} <= kinds
    seg = pydicom.dcmread(tmp_path / written["dicom_seg"])
    (again,) = client.retrieve_series(data.StudyInstanceUID, seg.SeriesInstanceUID)
    assert (again.pixel_array.reshape(64, 96).astype(bool) == mask).all()


def test_the_server_sees_the_archives_image_as_dicom(server, stored):
    path, data = stored
    answer = server.post(f"/infer/akessfa?image={data.SeriesInstanceUID}&output=json",
                         files={"params": (None, json.dumps(REPORT))})  # fmt: skip
    assert answer.status_code == 200, answer.text
    with open(path, "rb") as file:
        uploaded = server.post(
            "/infer/akessfa?output=json", files={"file": ("us.dcm", file), "params": (None, json.dumps(REPORT))}
        )
    for key in ("nodule_area_share", "area_mm2", "long_axis_mm"):
        assert answer.json()[key] == uploaded.json()[key]
    missing = server.post("/infer/akessfa?image=1.2.3.4&output=json", files={"params": (None, json.dumps(REPORT))})
    assert missing.status_code == 404 and "no '1.2.3.4'" in missing.json()["detail"]


def test_a_mask_returns_as_a_segmentation_and_is_kept_in_the_archive(server, archive, stored, tmp_path):
    data = stored[1]
    name = data.SeriesInstanceUID
    asked = {"params": (None, json.dumps({**REPORT, "label_info": [{"name": "nodule", "model_name": "AKE-SSFA"}]}))}
    plain = server.post(f"/infer/akessfa?image={name}&output=image", files=asked)
    (tmp_path / "mask.nii.gz").write_bytes(plain.content)
    import nibabel

    mask = np.asarray(nibabel.load(tmp_path / "mask.nii.gz").dataobj).reshape(96, 64).T
    answer = server.post(f"/infer/akessfa?image={name}&output=dicom_seg", files=asked)
    assert answer.status_code == 200, answer.text
    (tmp_path / "seg.dcm").write_bytes(answer.content)
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    assert (seg.pixel_array.reshape(64, 96) == mask).all() and seg.StudyInstanceUID == data.StudyInstanceUID
    before = len(DICOMwebClient(archive).search_for_series(search_filters={"Modality": "SEG"}))
    label = {"label": ("mask.nii.gz", plain.content), "params": asked["params"]}
    assert server.put(f"/datastore/label?image={name}&tag=final", files=label).status_code == 200
    assert len(DICOMwebClient(archive).search_for_series(search_filters={"Modality": "SEG"})) == before + 1


def test_the_proxy_passes_on_what_is_searched_for(server, stored):
    found = server.get(f"/proxy/dicom/qido/studies?StudyInstanceUID={stored[1].StudyInstanceUID}").json()
    assert len(found) == 1
    assert server.get("/proxy/dicom/qido/studies?StudyInstanceUID=1.2.3").json() == []
