"""The server as its users and its attackers see it: each request over HTTP."""

import io
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np
import psutil
import pytest

pytest.importorskip("monailabel", reason="make test-label runs these")

import jwt
import nibabel
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from PIL import Image

from tests.dicom_files import SECRETS, dicom_file
from tests.label.conftest import start

REPORT = {"report": "A hypoechoic round nodule is seen in the upper left part."}
ASKED = {"akessfa": ("us0", REPORT), "clip_tnseg": ("us0", {"phrase": "hypoechoic nodule"}), "hfcn": ("us0", {}),
         "sgf": ("us0", {}), "d2rnet": ("chest", {})}  # fmt: skip


def params(**values):
    return {"params": (None, json.dumps(values))}


def infer(server, name, image=None, output="json", **values):
    query = f"/infer/{name}?output={output}" + (f"&image={image}" if image else "")
    return server.post(query, files=params(**values))


def test_every_bundle_is_described_by_its_metadata(server):
    models = server.get("/info/").json()["models"]
    assert {name: model["type"] for name, model in models.items()} == {
        "akessfa": "segmentation", "clip_tnseg": "segmentation", "hfcn": "classification", "sgf": "others",
        "d2rnet": "others"}  # fmt: skip
    assert models["akessfa"]["labels"] == {"nodule": 1}
    assert models["hfcn"]["labels"] == {"benign": 0, "malignant": 1}
    assert all(model["description"] and model["version"] for model in models.values())


@pytest.mark.parametrize("name", ASKED)
def test_every_bundle_answers(server, name):
    image, text = ASKED[name]
    answer = infer(server, name, image, **text)
    assert answer.status_code == 200, answer.text
    content = answer.json()
    kinds = {"akessfa": "keywords", "clip_tnseg": "phrase", "hfcn": "prediction", "sgf": "report", "d2rnet": "boxes"}
    assert kinds[name] in content
    assert not [value for value in content.values() if isinstance(value, str) and value.startswith("/")]
    if name == "hfcn":
        assert sum(entry["score"] for entry in content["prediction"]) == pytest.approx(1, abs=1e-3)


@pytest.mark.parametrize("name", ["akessfa", "clip_tnseg"])
def test_masks_have_the_images_form(server, studies, tmp_path, name):
    answer = infer(server, name, "us0", "image", **REPORT)
    (tmp_path / "mask.png").write_bytes(answer.content)
    mask = np.asarray(Image.open(tmp_path / "mask.png"))
    assert mask.shape == Image.open(studies / "us0.png").size[::-1] and set(np.unique(mask)) <= {0, 1}
    pixels = np.asarray(Image.open(studies / "us0.png").convert("L"))
    affine = np.diag([0.25, 0.5, 1, 1])
    nibabel.save(nibabel.Nifti1Image(pixels.T[..., None], affine), tmp_path / "us.nii.gz")
    with open(tmp_path / "us.nii.gz", "rb") as file:
        answer = server.post(f"/infer/{name}?output=image", files={"file": ("us.nii.gz", file), **params(**REPORT)})
    (tmp_path / "mask.nii.gz").write_bytes(answer.content)
    found = nibabel.load(tmp_path / "mask.nii.gz")
    np.testing.assert_allclose(found.affine, affine, atol=1e-6)
    assert (mask == np.asarray(found.dataobj)[..., 0].T).all()


def test_the_report_reaches_the_network(server):
    answers = [infer(server, "akessfa", "us0", report=text).json() for text in (REPORT["report"], "")]
    assert answers[0]["words"] and not answers[1]["words"]


def test_a_dicom_upload_is_measured_in_millimetres(server, studies):
    with open(studies.parent / "us0.dcm", "rb") as file:
        answer = server.post("/infer/akessfa?output=json", files={"file": ("us0.dcm", file), **params(**REPORT)})
    assert answer.status_code == 200, answer.text
    assert {"area_mm2", "long_axis_mm"} <= answer.json().keys()
    plain = infer(server, "akessfa", "us0", **REPORT).json()
    assert answer.json()["nodule_area_share"] == plain["nodule_area_share"]
    log = server.log.read_text() + answer.text
    assert not [secret for secret in SECRETS if secret in log]


BAD = {
    "no such image": ("/infer/hfcn?image=nothing", {}, 404, "no 'nothing' in the studies"),
    "no image": ("/infer/hfcn?output=json", {}, 400, "none given"),
    "no report": ("/infer/akessfa?image=us0&output=json", {}, 400, "params lack 'report'"),
    "a report that is a file of the server": (
        "/infer/akessfa?image=us0&output=json", params(report="/etc/hosts.txt"), 400, "pass the text"),
    "a report that is no text": ("/infer/akessfa?image=us0", params(report=3), 400, "is no text"),
    "no such model": ("/infer/nothing?image=us0", {}, 404, "no 'nothing'"),
    "parameters that are no JSON": ("/infer/hfcn?image=us0", {"params": (None, "{x")}, 400, "no JSON"),
    "a path out of the studies": ("/infer/hfcn?image=../../etc/passwd", {}, 400, "is no name of an image"),
    "a path in the parameters": ("/infer/hfcn?image=us0", params(image="/etc/passwd"), 400, "a path is not accepted"),
    "an unknown format": ("/infer/akessfa?image=us0", params(**REPORT, result_extension=".exe"), 400, "none of .png"),
    "a text file as image": (
        "/infer/hfcn?output=json", {"file": ("a.png", b"no image")}, 400, "damaged or no image"),
    "an empty file": ("/infer/sgf?output=json", {"file": ("a.png", b"")}, 400, "damaged or no image"),
    "a label's tag that is a path": (
        "/infer/akessfa?image=us0&output=json", params(**REPORT, save_label=True, label_tag="../x"), 400, "label_tag"),
    "a tag of dots": ("/infer/akessfa?image=us0", params(**REPORT, save_label=True, label_tag="."), 400, "label_tag"),
    "an image that is a number": ("/infer/hfcn?image=us0", params(image=5), 400, "is no name"),
    "parameters that are a list": ("/infer/hfcn?image=us0", {"params": (None, "[1]")}, 400, "no JSON object"),
    "a file of another kind": ("/infer/hfcn?output=json", {"file": ("a.py", b"1")}, 400, "is none of .png"),
    "a large file": ("/infer/hfcn?output=json", {"file": ("a.png", b"0" * 3 * 2**20)}, 413, "larger than 2 MB"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_a_bad_request_gets_a_clear_answer(server, case):
    path, files, status, message = BAD[case]
    answer = server.post(path, files=files or params())
    assert (answer.status_code, message in answer.json()["detail"]) == (status, True), answer.text
    assert str(Path(server.log).parent) not in answer.text and "label-app-" not in answer.text
    assert server.get("/info/").status_code == 200


@pytest.mark.parametrize("length", [200, 800, -300])
@pytest.mark.parametrize("name", ["akessfa", "hfcn", "sgf", "d2rnet"])
def test_a_truncated_dicom_file_is_refused(server, studies, name, length):
    whole = (studies.parent / "us0.dcm").read_bytes()
    files = {"file": ("us0.dcm", whole[:length]), **params(**REPORT)}
    answer = server.post(f"/infer/{name}?output=json", files=files)
    assert answer.status_code == 400 and "us0" not in answer.text, answer.text
    assert answer.json()["detail"].startswith("image: ")


def test_names_do_not_lead_out_of_the_studies(server, studies):
    image = {"file": ("x.png", (studies / "us1.png").read_bytes())}
    assert server.put("/datastore/?image=../evil", files=image).status_code == 400
    assert server.put("/datastore/?image=%2Ftmp%2Fevil", files=image).status_code == 400
    label = {"label": ("x.png", (studies / "us1.png").read_bytes())}
    assert server.put("/datastore/label?image=us1&tag=../../evil", files=label).status_code == 400
    assert not list(studies.parent.glob("evil*"))
    assert server.put("/datastore/?image=mine", files=image).json() == {"image": "mine"}
    assert infer(server, "hfcn", "mine").status_code == 200


def picture(width, height):
    buffer = io.BytesIO()
    Image.new("L", (width, height)).save(buffer, format="PNG")
    return {"file": ("a.png", buffer.getvalue()), **params(**REPORT)}


@pytest.mark.parametrize("size", [(9000, 9000), (5000, 1)])
def test_a_small_file_of_a_huge_picture_is_refused(server, size):
    answer = server.post("/infer/akessfa?output=json", files=picture(*size))
    assert answer.status_code == 400 and f"{size[0]} x {size[1]} pixels" in answer.json()["detail"]


def test_nothing_but_pictures_is_kept(server, studies):
    page = b"<script>alert(1)</script>"
    assert server.put("/datastore/?image=evil", files={"file": ("a.html", page)}).status_code == 400
    assert server.put("/datastore/?image=torch", files={"file": ("torch.py", b"1")}).status_code == 400
    label = {"label": ("a.html", page)}
    assert server.put("/datastore/label?image=us1&tag=final", files=label).status_code == 400
    assert server.put("/datastore/label?image=us1&tag=.", files={"label": ("a.png", page)}).status_code == 400
    assert not list(studies.glob("evil*")) and not list(studies.glob("torch*"))


@pytest.mark.parametrize("path", ["/train/akessfa", "/train/", "/scoring/x", "/batch/infer/hfcn", "/scoring/"])
@pytest.mark.parametrize("body", [{"bundle_path": "/tmp"}, {"akessfa": {"bundle_path": "/tmp"}}, [1]])
def test_a_task_takes_no_settings_that_reach_into_the_server(server, path, body):
    answer = server.post(path, json=body)
    assert answer.status_code in (400, 404), answer.text
    assert any(said in answer.text for said in ("bundle_path: no set", "akessfa: no set", "no 'x'", "no JSON object"))


def uploads(server):
    """Where the server keeps what is uploaded while it looks at it."""
    (told,) = {part for part in server.log.read_text().split() if part.startswith("uploads=")}
    return Path(told.partition("=")[2])


def test_refused_uploads_leave_nothing_behind(server):
    folder = uploads(server)
    before = set(folder.iterdir())
    for content in (b"no image", b""):
        server.post("/infer/hfcn?output=json", files={"file": ("a.png", content)})
    server.post("/infer/hfcn?output=json", files=picture(5000, 1))
    assert set(folder.iterdir()) == before


def test_answers_do_not_tell_where_the_server_keeps_things(server, studies):
    sample = server.post("/activelearning/random", json={})
    assert sample.status_code == 200 and str(studies) not in sample.text


def test_a_hundred_requests_at_once(server):
    with ThreadPoolExecutor(100) as pool:
        answers = list(pool.map(lambda _: infer(server, "hfcn", "us0"), range(100)))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["prob"] for answer in answers}) == 1


def test_requests_leave_no_files_and_no_memory_behind(server):
    process = psutil.Process(server.process.pid)
    for _ in range(30):
        infer(server, "akessfa", "us0", "image", **REPORT)
    before = process.memory_info().rss
    for _ in range(100):
        infer(server, "akessfa", "us0", "image", **REPORT)
    assert process.memory_info().rss - before < 20 * 2**20


def test_training_on_labels_changes_the_weights_that_answer(server, studies, bundles):
    mask = np.zeros(Image.open(studies / "us0.png").size[::-1], dtype=np.uint8)
    mask[5:25, 5:25] = 1
    Image.fromarray(mask).save(studies.parent / "mask.png")
    for number in range(6):
        info = {"info": (None, json.dumps(REPORT))}
        assert server.put(f"/datastore/image/info?image=us{number}", files=info).status_code == 200
        label = {"label": ("mask.png", (studies.parent / "mask.png").read_bytes())}
        assert server.put(f"/datastore/label?image=us{number}&tag=final", files=label).status_code == 200
    for name in ("akessfa", "clip_tnseg"):
        weights = bundles / name / "models" / "model.pt"
        before, text = weights.stat().st_mtime_ns, ASKED[name][1]
        first = infer(server, name, "us0", **text).json()["nodule_area_share"]
        answer = server.post(f"/train/{name}?run_sync=true", json={"max_epochs": 2, "val_split": 0.3, "device": "cpu"})
        assert answer.status_code == 200, answer.text
        assert weights.stat().st_mtime_ns > before
        assert 0 <= infer(server, name, "us0", **text).json()["nodule_area_share"] <= 1 and 0 <= first <= 1
    assert infer(server, "akessfa", "us0", **REPORT).json()["words"]


@pytest.fixture(scope="module")
def identity():
    """An OpenID provider with one key, and a token that it signed."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = key.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)

    class Realm(BaseHTTPRequestHandler):
        def do_GET(self):
            import base64

            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"public_key": base64.b64encode(public).decode()}).encode())

        def log_message(self, *_):
            pass

    realm = HTTPServer(("127.0.0.1", 0), Realm)
    threading.Thread(target=realm.serve_forever, daemon=True).start()

    def token(*roles, until=600):
        claims = {"preferred_username": "ann", "realm_access": {"roles": roles}, "exp": int(time.time()) + until}
        return {"Authorization": "Bearer " + jwt.encode(claims, key, algorithm="RS256")}

    yield f"http://127.0.0.1:{realm.server_address[1]}", token
    realm.shutdown()


def test_without_a_token_nothing_is_told(identity, studies, bundles, tmp_path):
    address, token = identity
    guarded = start(studies, bundles, tmp_path / "log", MONAI_LABEL_AUTH_ENABLE="true",
                    MONAI_LABEL_AUTH_REALM_URI=address)  # fmt: skip
    try:
        user = "monailabel-user"
        assert guarded.get("/info/").status_code == guarded.get("/try/").status_code == 401
        assert guarded.get("/info/", headers=token(user)).status_code == 200
        assert guarded.get("/info/", headers=token(user, until=-10)).status_code == 401
        assert guarded.get("/info/", headers={"Authorization": "Bearer nonsense"}).status_code == 401
        assert infer(guarded, "hfcn", "us0").status_code == 401
        files = {"file": ("x.png", (studies / "us1.png").read_bytes())}
        assert guarded.put("/datastore/?image=new", files=files, headers=token(user)).status_code == 403
        annotator = token(user, "monailabel-annotator")
        assert guarded.put("/datastore/?image=new", files=files, headers=annotator).status_code == 200
    finally:
        guarded.process.terminate()
        guarded.process.wait(20)
    assert not uploads(guarded).exists()


def test_it_listens_on_this_machine_alone(server):
    port = int(server.url.rpartition(":")[2])
    listening = [c.laddr for c in psutil.Process(server.process.pid).net_connections() if c.status == "LISTEN"]
    assert [(place.ip, place.port) for place in listening] == [("127.0.0.1", port)]


def test_a_clip_answers_for_its_first_frame(server, studies, tmp_path):
    pixels = np.asarray(Image.open(studies / "us0.png").convert("L"))
    whole = {"WindowCenter": "127.5", "WindowWidth": "255"}
    clip = dicom_file(tmp_path / "clip.dcm", np.stack([pixels, pixels[::-1]]), **whole)
    with open(clip, "rb") as file:
        answer = server.post("/infer/hfcn?output=json", files={"file": ("clip.dcm", file), **params()})
    assert answer.json()["prob"] == infer(server, "hfcn", "us0").json()["prob"]
