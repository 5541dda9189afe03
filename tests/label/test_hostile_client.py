"""A client that sends what it must not in every field of every call: nothing runs, every answer is 4xx."""

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("monailabel", reason="make test-label runs these")

import requests
from PIL import Image

from common.cli.code import CodeConflict
from common.cli.typed_text import literal
from common.datasets.listed import read_listed
from label_app.request_settings import SETTINGS, fault_of, fault_of_info, fault_of_tasks
from label_app.served_bundle import ServedBundle
from label_app.train_task import TrainBundle, divided, patient_of
from tests.dicom_files import dicom_file
from tests.label.conftest import start

ROOT = Path(__file__).resolve().parents[2]
MARK = "/tmp/ultrasound-text-pwned"
CODE = f"$__import__('os').system('touch {MARK}')"
HOSTILE = [CODE, "@bundle_root", "%epochs", "a::b#c/../d", "../../etc/passwd", "", None, -1, 10**9, 1e308, True, [], {},
           [CODE], {"a": CODE}, "x" * 100_000]  # fmt: skip
TASKS = ["/train/akessfa", "/batch/infer/akessfa", "/scoring/x", "/activelearning/random"]


@pytest.fixture(autouse=True)
def nothing_ran():
    Path(MARK).unlink(missing_ok=True)
    yield
    assert not Path(MARK).exists()


@pytest.mark.parametrize("path", TASKS)
def test_every_setting_of_every_task_with_every_hostile_value(server, path):
    for name in (*SETTINGS, "bundle_path", "run_id", "model_filename", "tracking_uri", CODE):
        for value in HOSTILE:
            if name in SETTINGS and SETTINGS[name].accepts(value):
                continue
            answer = server.post(path, json={name: value})
            assert 400 <= answer.status_code < 500 and "\n" not in answer.json()["detail"], (name, value, answer.text)
    assert server.get("/info/").status_code == 200


@pytest.mark.parametrize("name", ["akessfa", "clip_tnseg", "hfcn"])
def test_every_parameter_of_inference_with_every_hostile_value(server, name):
    for setting in (*SETTINGS, "session", "label", CODE):
        for value in HOSTILE:
            if setting in SETTINGS and SETTINGS[setting].accepts(value):
                continue
            parameters = {"params": (None, json.dumps({"report": "", setting: value}))}
            answer = server.post(f"/infer/{name}?image=us0&output=json", files=parameters)
            assert 400 <= answer.status_code < 500, (setting, value, answer.text)


@pytest.mark.parametrize("text", [CODE, "@bundle_root", "%epochs", "1.2, 3.4", "#2", "run#2", "12"])
def test_a_report_is_taken_as_it_is(server, text):
    answer = server.post(
        "/infer/akessfa?image=us0&output=json", files={"params": (None, json.dumps({"report": text}))}
    ).json()
    assert answer["report"] == text
    phrase = {"params": (None, json.dumps({"phrase": text}))}
    assert server.post("/infer/clip_tnseg?image=us0&output=json", files=phrase).json()["phrase"] == text


@pytest.mark.parametrize("query", ["image", "label", "tag", "id"])
@pytest.mark.parametrize("value", ["../x", "/etc/passwd", "a/b", "..", "x" * 300, "a\\b"])
def test_names_in_a_query_lead_nowhere(server, query, value):
    others = {"image": "us0", "label": "us0", "tag": "final", "id": "us0"}
    for method, path in (("GET", "/datastore/image"), ("GET", "/datastore/label"), ("DELETE", "/datastore/image"),
                         ("PUT", "/datastore/image/info"), ("GET", "/datastore/label/info")):  # fmt: skip
        answer = requests.request(method, server.url + path, params={**others, query: value}, timeout=60)
        assert 400 <= answer.status_code < 500, (method, path, answer.text)


JSON_TYPES = ["application/json; x=multipart", "application/vnd.api+json", "multipart/form-data; boundary=x",
              "text/plain", "application/json;multipart/form-data", "MULTIPART/FORM-DATA"]  # fmt: skip


@pytest.mark.parametrize("path", TASKS)
@pytest.mark.parametrize("kind", JSON_TYPES)
def test_settings_are_checked_whatever_they_are_called(server, path, kind):
    for content in ({"bundle_path": "/tmp"}, {"max_epochs": CODE}, {"model": ["a"]}, {"images": ["/etc/passwd"]}):
        answer = server.post(path, data=json.dumps(content), headers={"Content-Type": kind})
        assert 400 <= answer.status_code < 500, answer.text


def test_tasks_check_their_settings_themselves(server):
    """Whatever way a request found past the door: in the process of the server, as MONAI Label starts tasks."""
    code = (
        "import label_app.application as a\n"
        "from monailabel.interfaces.exception import MONAILabelException\n"
        "for bad in ({'bundle_path': '/tmp'}, {'max_epochs': '$x'}, {'gpus': '$x'}):\n"
        "    try: a.AsyncTask.run('train', request={'model': 'akessfa'}, params=bad)\n"
        "    except MONAILabelException as error: print(error.msg)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.count("train: ") == 3, done.stdout


MISUSED = [
    ("POST", "/infer/hfcn?image=us0&output=image"), ("POST", "/infer/akessfa?image=us0&session_id=abc"),
    ("HEAD", "/datastore/image?image=us0&check_sum=FOO:abc"), ("HEAD", "/datastore/image?image=us0&check_sum=a:b:c"),
    ("GET", "/logs/?lines=99999999999999999999"), ("GET", "/proxy/dicom/qido/studies"),
    ("PUT", "/datastore/label?image=us0&tag=%0a"), ("GET", "/datastore/image?image=.png"),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path"), MISUSED)
def test_a_call_that_does_not_fit_is_the_requests_fault(server, method, path):
    parameters = {"params": (None, '{"report": ""}')}
    answer = requests.request(method, server.url + path, files=parameters, timeout=60)
    assert 400 <= answer.status_code < 500, (method, path, answer.text)


def test_a_batch_of_nothing_is_the_requests_fault(server):
    for settings in ({"images": ["nothing"]}, {"label_info": [{"a": "x" * 9000}] * 30}):
        answer = server.post("/batch/infer/akessfa?run_sync=true", json=settings)
        assert 400 <= answer.status_code < 500, answer.text


@pytest.mark.parametrize("name", ["\u00e9" * 150 + ".png", ".png", "..png", " .png", "x" * 300 + ".png", "a.zip"])
def test_names_of_uploads_are_names_that_a_folder_holds(server, studies, name):
    content = (studies / "us0.png").read_bytes()
    for method, path in (("PUT", "/datastore/image?image=new"), ("POST", "/infer/hfcn"), ("PUT", "/datastore/image")):
        answer = requests.request(method, server.url + path, files={"file": (name, content)}, timeout=60)
        assert answer.status_code == 400, answer.text


HUGE = json.dumps({"a": "x" * 200_000})


POISON = [
    '{"report": "\\ud800"}', '{"a": "\\udfff"}', '{"\\ud800": 1}', '{"a": NaN}', '{"a": Infinity}',
    '{"a": ' + "9" * 5000 + "}",
    '{"strategy": 5}', '{"strategy": {"random": {"ts": "x"}}}', '{"ts": "x"}', '{"name": []}', '{"path": "/etc"}',
]  # fmt: skip


@pytest.mark.parametrize("info", ["[1]", '"x"', "{", '{"report": 5}', '{"report": ["$x"]}', HUGE, "[" * 5000, *POISON])
def test_information_is_a_small_object_with_texts(server, info):
    for path in ("/datastore/image/info?image=us0", "/datastore/label/info?label=us0&tag=final"):
        answer = server.put(path, files={"info": (None, info)})
        assert answer.status_code == 400 and "\n" not in answer.json()["detail"], answer.text
    assert server.get("/datastore/?output=all").status_code == 200
    assert server.post("/activelearning/random", json={}).status_code in (200, 429)


@pytest.mark.parametrize("params", ['{"report": "\\ud800"}', '{"\\ud800": 1}', '{"report": ' + "9" * 5000 + "}"])
def test_settings_that_no_json_can_be_written_with(server, params):
    files = {"params": (None, params)}
    assert server.post("/infer/akessfa?image=us0&output=json", files=files).status_code == 400
    assert server.post("/train/akessfa", data=params).status_code == 400


def test_nesting_without_end_is_refused(server):
    for path, files in (("/train/akessfa", None), ("/infer/hfcn?image=us0", {"params": (None, "[" * 100_000)})):
        answer = server.post(path, files=files, data=None if files else "[" * 100_000)
        assert answer.status_code == 400, answer.text


@pytest.fixture
def labelled(server, studies):
    """Six images with masks and hostile texts."""
    buffer = io.BytesIO()
    mask = Image.new("L", Image.open(studies / "us0.png").size)
    mask.paste(1, (5, 5, 25, 25))
    mask.save(buffer, format="PNG")
    for number in range(6):
        info = {"report": f"A hypoechoic nodule. {CODE}" if number % 2 else CODE, "phrase": "@bundle_root"}
        assert server.put(f"/datastore/image/info?image=us{number}", files={"info": (None, json.dumps(info))}).ok
        label = {"label": ("mask.png", buffer.getvalue())}
        assert server.put(f"/datastore/label?image=us{number}&tag=final", files=label).ok


def test_stored_texts_never_become_values_of_a_config(server, labelled):
    for name in ("akessfa", "clip_tnseg"):
        answer = server.post(f"/train/{name}?run_sync=true", json={"max_epochs": 1, "device": "cpu"})
        assert answer.status_code == 200, answer.text


def test_the_training_settings_that_are_offered_are_taken(server, labelled):
    offered = server.get("/info/").json()["trainers"]["akessfa"]["config"]
    answer = server.post("/train/akessfa?run_sync=true", json={**offered, "max_epochs": 1})
    assert answer.status_code == 200, answer.text


def test_a_training_in_the_background_is_checked_too(server, labelled):
    assert server.post("/train/akessfa", json={"max_epochs": CODE}).status_code == 400
    assert server.post("/train/", json={"akessfa": {"device": CODE}}).status_code == 400
    assert server.post("/train/clip_tnseg", json={"max_epochs": 1, "device": "cpu"}).status_code == 200
    for _ in range(480):
        state = server.get("/train/").json()["status"]
        if state in ("DONE", "ERROR"):
            break
        time.sleep(0.5)
    assert state == "DONE"


def test_weights_can_be_fetched_and_not_replaced(server, bundles):
    answer = server.get("/model/hfcn")
    assert answer.status_code == 200 and answer.content == (bundles / "hfcn" / "models" / "model.pt").read_bytes()
    assert server.get("/model/info/hfcn").json()["checksum"]
    assert server.get("/model/nothing").status_code == 404
    assert server.put("/model/hfcn", files={"file": ("model.pt", b"x")}).status_code == 405
    assert requests.delete(server.url + "/model/hfcn", timeout=60).status_code == 405


@pytest.mark.parametrize("path", ["/infer/wsi/akessfa", "/infer/wsi_v2/akessfa", "/session/x"])
def test_what_is_not_of_these_bundles_is_not_served(server, path):
    assert server.post(path, json={"image": "/etc/passwd"}).status_code == 404


def test_pages_of_other_sites_may_not_ask(server):
    other = {"Origin": "https://other.example"}
    preflight = {**other, "Access-Control-Request-Method": "POST"}
    answer = requests.options(server.url + "/info/", headers=preflight, timeout=60)
    assert "access-control-allow-origin" not in answer.headers
    read = server.get("/info/", headers=other)
    assert "access-control-allow-origin" not in read.headers
    assert server.post("/train/akessfa", json={}, headers=other).status_code == 403
    own = {"Origin": server.url}
    assert server.post("/activelearning/random", json={}, headers=own).status_code == 200


def test_a_name_that_a_site_points_at_this_machine_is_no_name_of_it(server):
    assert server.get("/info/", headers={"Host": "other.example"}).status_code == 400


@pytest.fixture(scope="module")
def public(studies, bundles, tmp_path_factory):
    """A server that other machines reach, without authentication."""
    running = start(studies, bundles, tmp_path_factory.mktemp("log") / "log", arguments=["--host", "0.0.0.0"])
    yield running
    running.process.terminate()
    running.process.wait(20)


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/logs/"), ("GET", "/logs"), ("GET", "/logs/gpu"), ("GET", "/proxy/dicom/qido/studies"),
     ("POST", "/proxy/dicom/stow/studies"), ("DELETE", "/datastore/?id=us7"), ("DELETE", "/datastore/image?id=us7"),
     ("DELETE", "/datastore/label?id=us7&tag=final"), ("DELETE", "/train/"), ("POST", "/reload"),
     ("GET", "/model/hfcn"), ("GET", "/datastore/dataset"), ("GET", "/datastore/?output=train")],
)  # fmt: skip
def test_a_server_without_authentication_that_others_reach_is_closed(public, server, method, path):
    answer = requests.request(method, public.url + path, timeout=60)
    assert answer.status_code == 403 and "bind it to 127.0.0.1" in answer.json()["detail"]
    place, _, query = path.partition("?")
    for end in ("%0a", "/%0a", "%0d%0a", "%00"):
        answer = requests.request(method, f"{public.url}{place}{end}?{query}", timeout=60)
        assert answer.status_code == 400, (end, answer.text)
    assert public.get("/info/").status_code == 200


def test_a_public_server_allows_named_origins(studies, bundles, tmp_path):
    running = start(studies, bundles, tmp_path / "log", arguments=["--origins", "https://viewer.example"])
    try:
        answer = running.get("/info/", headers={"Origin": "https://viewer.example"})
        assert answer.headers["access-control-allow-origin"] == "https://viewer.example"
        other = running.get("/info/", headers={"Origin": "https://other.example"})
        assert "access-control-allow-origin" not in other.headers
    finally:
        running.process.terminate()
        running.process.wait(20)


def test_faults_are_told_in_one_line():
    assert fault_of({"max_epochs": 0}) == "max_epochs: 0 is no whole number from 1 to 1000"
    assert fault_of({"device": "cuda:x"}) == "device: 'cuda:x' is none of cpu, cuda, cuda:N"
    assert fault_of({"report": 3}).startswith("report: 3 is no text")
    assert fault_of_tasks({"akessfa": {"max_epochs": "5"}}).startswith("max_epochs: '5' is no whole number")
    assert fault_of_info({"organ": {"side": 1}, "report": "$x"}) is None
    assert fault_of_info({"strategy": {"random": 1}}) == "strategy: told by the server, not by requests"
    assert fault_of({"max_epochs": 5, "device": ["cuda:1"], "val_split": 0.2}) is None


def test_overrides_of_a_training_hold_literals_and_numbers_alone(bundles, tmp_path):
    task = TrainBundle(bundles / "akessfa", {})
    values = task.overrides({"max_epochs": 3, "device": "cpu"}, str(tmp_path / "a#b" / "$cases.json"), 4)
    assert values["train#dataset#data"]["path"] == literal(str(tmp_path / "a#b" / "$cases.json"))
    assert (values["epochs"], values["device"], values["batch_size"]) == (3, "$torch.device('cpu')", 4)
    (tmp_path / "cases.json").write_text('{"train": [{"report": "$x"}]}')
    assert read_listed(str(tmp_path / "cases.json"), "train") == [{"report": "$x"}]


@pytest.mark.parametrize(("share", "held_out"), [(0.2, 1), (0.5, 4), (0.9, 5), (0.0, 0)])
def test_a_patients_images_are_trained_on_or_held_out(share, held_out):
    cases = [{"case": patient, "image": str(number)} for number, patient in enumerate("aabccdd")]
    training, kept = divided(cases, share)
    assert len(training) + len(kept) == len(cases) and len(kept) == held_out
    assert not {case["case"] for case in training} & {case["case"] for case in kept}


@pytest.mark.parametrize(
    ("patients", "held_out"), [("abbbbbbbbb", "a"), ("aaaaab", "b"), ("aaaa", ""), ("abbbcc", "cc")]
)
def test_about_the_share_is_held_out(patients, held_out):
    assert [case["case"] for case in divided([{"case": patient} for patient in patients], 0.3)[1]] == [*held_out]


def test_the_patient_is_told_by_the_file(tmp_path):
    pixels = np.zeros((8, 8), np.uint8)
    dicom_file(tmp_path / "one.dcm", pixels, PatientID="P7")
    Image.fromarray(pixels).save(tmp_path / "b.png")
    assert patient_of(str(tmp_path / "one.dcm")) == "P7" and patient_of(str(tmp_path / "b.png")) == "b.png"
    (tmp_path / "series").mkdir()
    dicom_file(tmp_path / "series" / "IM1", pixels, PatientID="P8")
    assert patient_of(str(tmp_path / "series")) == "P8"


def test_a_packed_bundle_with_another_common_is_refused_with_both_versions(bundles, tmp_path):
    import shutil

    folder = tmp_path / "hfcn"
    shutil.copytree(bundles / "hfcn", folder)
    shutil.copytree(Path(__file__).resolve().parents[2] / "common", folder / "common")
    ServedBundle(folder)
    init = folder / "common" / "__init__.py"
    init.write_text(init.read_text().replace('__version__ = "', '__version__ = "9.'))
    with pytest.raises(CodeConflict, match=r"hfcn: it brings common 9\.\d\S* \(\w+\), and common \d\S* \(\w+\)"):
        ServedBundle(folder)
    assert os.environ.get("LABEL_APP_LOOPBACK") is None
