"""The page to try by hand, with the weights that come along: its routes, and what a browser shows."""

from __future__ import annotations

import io
import re
import shutil
import socket
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import requests
from PIL import Image

pytest.importorskip("uvicorn", reason="make test-label runs these")
pytest.importorskip("python_multipart", reason="make test-label runs these")

import uvicorn

from label_app.limits import UPLOAD_LIMIT
from label_app.try_page.__main__ import BUNDLES, application
from label_app.try_page.examples import examples
from tests.dicom_files import SECRETS, dicom_file

STRINGS = BUNDLES.parent / "label_app" / "try_page" / "page" / "strings.js"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SIZES = {"desk": (1280, 900), "phone": (390, 844)}
EVIL = '<img src=x onerror="document.title=1"> A nodule <script>document.title=1</script> is seen.'


class Page:
    """The page's address, and questions to it without a browser."""

    def __init__(self, url: str) -> None:
        self.url = url

    def ask(self, model: str, *files: tuple[str, tuple[str, bytes]], **data: str) -> requests.Response:
        return requests.post(f"{self.url}predict", files=files or None, data={"model": model, **data}, timeout=60)


@pytest.fixture(scope="module")
def page():
    with socket.socket() as probe, pytest.MonkeyPatch.context() as patch:
        patch.setenv(UPLOAD_LIMIT, "2")
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        server = uvicorn.Server(uvicorn.Config(application(BUNDLES), port=port, log_level="warning"))
        thread = threading.Thread(target=server.run)
        thread.start()
        while not server.started:
            time.sleep(0.05)
        yield Page(f"http://127.0.0.1:{port}/try/")
        server.should_exit = True
        thread.join(10)


def images_of(id):
    """The files of an example as the page sends them."""
    named = examples()[id].files.items()
    return [("mask" if "mask" in name else "image", (name, content)) for name, content in named]


KINDS = {"left": "outline", "phrase": "outline", "suspicious": "branches", "study": "sentences", "chest": "boxes"}


@pytest.mark.parametrize("id", KINDS)
def test_every_model_answers_with_its_images_and_files(page, id):
    example = examples()[id]
    answer = page.ask(example.model, *images_of(id), text=example.text)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert all(view["image"].startswith("data:image/png;base64,") for view in told["views"])
    assert f"{example.model}.json" in [file["name"] for file in told["files"]]
    assert {"image", "images", "study"}.isdisjoint(told["entry"]) and "familiarity" in told["entry"]
    expected = {"outline": "outline" in told["views"][0], "branches": told["views"][-1].get("is") == "branches"}
    assert expected.get(KINDS[id], KINDS[id] in told["entry"])
    assert len(told["attention"]) == len(told["entry"].get("words") or told["entry"].get("sentences") or ())
    assert not re.search(r"/(tmp|home|root)/", answer.text)


def test_the_report_says_which_nodule_is_meant(page):
    shares = []
    for id in ("left", "right"):
        view = page.ask("akessfa", *images_of(id), text=examples()[id].text).json()["views"][0]
        numbers = np.array(re.findall(r"[\d.]+ [\d.]+", view["outline"]), dtype=object)
        across = np.array([float(point.split()[0]) for point in numbers])
        shares.append((across < view["width"] / 2).mean())
    assert shares[0] > 0.9 and shares[1] < 0.1


def test_dicom_gives_millimetres_objects_and_frames(page, tmp_path):
    image = Image.open(io.BytesIO(examples()["suspicious"].files["suspicious.png"]))
    frames = np.stack([np.asarray(image), np.asarray(image)[::-1]])
    path = dicom_file(tmp_path / "clip.dcm", frames, PixelSpacing=[0.1, 0.1])
    told = [
        page.ask("clip_tnseg", ("image", ("clip", path.read_bytes())), text="nodule", frame=frame) for frame in "12"
    ]
    first, second = (answer.json() for answer in told)
    assert (first["frames"], second["frame"]) == (2, 2) and first["entry"]["area_mm2"] > 0
    assert first["views"][0]["image"] != second["views"][0]["image"]
    assert {"clip_tnseg_seg.dcm", "clip_tnseg_sr.dcm"} <= {file["name"] for file in first["files"]}
    assert not [secret for secret in SECRETS if secret in told[0].text]
    beyond = page.ask("clip_tnseg", ("image", ("clip", path.read_bytes())), frame="3")
    assert (beyond.status_code, beyond.json()["detail"]) == (400, "image: no frame 3; there are 2")
    masked = page.ask("hfcn", ("image", ("clip", path.read_bytes())), images_of("suspicious")[1])
    assert masked.status_code == 400 and masked.json()["detail"].startswith("mask: the image is a clip")
    half = page.ask("akessfa", ("image", ("clip", path.read_bytes()[: path.stat().st_size // 2])))
    assert half.status_code == 400 and half.json()["detail"].startswith("image: 'clip.frame0001.dcm' is damaged")


IMAGE = ("image", ("a.png", b"no image"))
REFUSED = {
    "no model": ("nothing", [IMAGE], {}, "model: none was chosen"),
    "no image": ("akessfa", [], {}, "image: none was chosen; choose or drop a file"),
    "a damaged image": ("hfcn", [IMAGE], {}, "image: 'a.png' is damaged or no image"),
    "another kind": ("hfcn", [("image", ("a.py", b"1"))], {}, "image: 'a.py' is none of .png"),
    "too many": ("sgf", [IMAGE] * 3, {}, "image: 3 files were chosen; sgf reads 2 at most"),
    "a file of the server": ("akessfa", [IMAGE], {"text": "/etc/hosts.txt"}, "report: pass the text, not the name"),
    "a long text": ("akessfa", [IMAGE], {"text": "x" * 20_001}, "report: it is no text of at most 20000 characters"),
    "no frame": ("akessfa", [IMAGE], {"frame": "-1"}, "image: the number of the frame is no whole number from 1"),
    "a path": ("akessfa", [("image", ("../../b.png", b"x"))], {}, "image: 'b.png' is damaged"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_bad_question_gets_one_sentence(page, case):
    model, files, data, sentence = REFUSED[case]
    answer = page.ask(model, *files, **data)
    assert answer.status_code == 400 and answer.json()["detail"].startswith(sentence), answer.text
    assert "\n" not in answer.json()["detail"] and "/tmp" not in answer.text


def test_nothing_is_kept(page):
    folder = Path(tempfile.gettempdir())
    before = set(folder.iterdir())
    page.ask("d2rnet", *images_of("chest"))
    page.ask("hfcn", IMAGE)
    assert not {path for path in set(folder.iterdir()) - before if path.name.startswith(("try-", "predict-"))}


def test_a_mask_of_another_size_is_refused_by_its_name(page):
    other = io.BytesIO()
    Image.new("L", (50, 50)).save(other, "png")
    answer = page.ask("hfcn", images_of("suspicious")[0], ("mask", ("mine.png", other.getvalue())))
    assert answer.status_code == 400 and "'mine.png' is 50x50 pixels" in answer.json()["detail"]


def test_the_page_is_closed_to_other_sites_and_large_files(page):
    assert requests.get(page.url, headers={"Host": "evil.example"}).status_code == 400
    foreign = requests.post(f"{page.url}predict", headers={"Origin": "http://evil.example"})
    large = page.ask("hfcn", ("image", ("a.png", b"0" * 3 * 2**20)))
    assert (foreign.status_code, large.status_code) == (403, 413)
    assert [requests.get(page.url + name).status_code for name in ("..%2frouter.py", "examples/left/x", "x.js")] == [
        404
    ] * 3
    policy = requests.get(page.url).headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';") and "unsafe" not in policy


def test_the_server_of_monai_label_has_it_too(server):
    pytest.importorskip("monailabel")
    assert "Research use only" in server.get("/try/").text
    assert {model["name"] for model in server.get("/try/models").json()} == {path.name for path in BUNDLES.iterdir()}
    example = examples()["left"]
    answer = server.post("/try/predict", files=images_of("left"), data={"model": "akessfa", "text": example.text})
    assert answer.status_code == 200 and answer.json()["entry"]["words"]
    assert server.post("/try/predict", headers={"Origin": "http://evil.example"}).status_code == 403


def test_both_languages_say_the_same():
    _, english, chinese = re.split(r"^  (?:en|zh): \{$", STRINGS.read_text(encoding="utf-8"), flags=re.M)
    keys = [re.findall(r"^    (\w+):", part, re.M) for part in (english, chinese)]
    places = [re.findall(r"\{\w+\}", part) for part in (english, chinese)]
    assert len(keys[0]) > 50 and keys[0] == keys[1] and sorted(places[0]) == sorted(places[1])


@pytest.fixture(scope="module")
def chromium():
    sync = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("there is no chromium")
    with sync.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture(params=SIZES)
def tab(request, chromium, page):
    """The page in a browser; at the end nothing was asked of another host, and nothing was complained of."""
    width, height = SIZES[request.param]
    context = chromium.new_context(viewport={"width": width, "height": height}, locale="en-GB", reduced_motion="reduce")
    tab, asked, complaints = context.new_page(), [], []
    tab.on("request", lambda sent: asked.append(sent.url))
    tab.on("console", lambda told: complaints.append(told.text) if told.type in ("error", "warning") else None)
    tab.on("pageerror", lambda error: complaints.append(str(error)))
    tab.goto(page.url)
    tab.wait_for_selector("#examples button")
    yield tab
    context.close()
    assert all(url.startswith((page.url, "blob:", "data:")) for url in asked)
    assert not [told for told in complaints if "400 (Bad Request)" not in told]


def wait(tab):
    tab.get_by_text("has answered").wait_for()


def test_an_example_shows_its_outline_in_either_language(tab):
    tab.click("#example-left")
    wait(tab)
    assert tab.evaluate("document.querySelector('svg.viewer').getBoundingClientRect().top < innerHeight")
    assert tab.locator("path.outline").is_visible() and tab.locator("#fault").is_hidden()
    assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
    tab.get_by_role("radio", name="Probability").check()
    assert tab.locator("image.probability").is_visible() and tab.locator("path.outline").is_hidden()
    tab.locator(".word", has_text="hypoechoic").click()
    assert tab.locator("image.heat").get_attribute("href").startswith("data:image/png")
    tab.click("#language")
    assert tab.inner_text("h1") == "试用模型" and tab.get_attribute("html", "lang") == "zh"
    assert tab.locator("path.outline").count() == 1 and "轮廓" in tab.inner_text("#result")


def test_the_keyboard_is_enough(tab):
    tab.focus("#example-chest")
    tab.keyboard.press("Enter")
    wait(tab)
    tab.focus("svg.viewer")
    before = tab.get_attribute("svg.viewer", "viewBox")
    tab.keyboard.press("+")
    zoomed = tab.get_attribute("svg.viewer", "viewBox")
    tab.keyboard.press("ArrowRight")
    assert len({before, zoomed, tab.get_attribute("svg.viewer", "viewBox")}) == 3
    tab.focus(".sentence")
    tab.keyboard.press("ArrowRight")
    tab.keyboard.press("Enter")
    assert tab.locator(".sentence").nth(1).get_attribute("aria-pressed") == "true" and tab.inner_text(".looks")
    unnamed = ("button:not([aria-label]):empty", "input:not([aria-label]):not(label input)", "svg:not([aria-label])")
    assert [tab.locator(kind).count() for kind in unnamed] == [0, 0, 0]


def test_a_bad_file_gets_one_sentence_and_text_stays_text(tab, tmp_path):
    bad = {"name": EVIL.replace("/", "") + ".png", "mimeType": "image/tiff", "buffer": b"no image"}
    tab.set_input_files("#image", bad)
    tab.click("#ask")
    tab.wait_for_selector("#fault:not([hidden])")
    assert "is damaged or no image" in tab.inner_text("#fault") and "\n" not in tab.inner_text("#fault")
    good = tmp_path / "nodule.png"
    good.write_bytes(examples()["left"].files["nodules.png"])
    tab.set_input_files("#image", good)
    tab.fill("#text", EVIL)
    tab.click("#ask")
    wait(tab)
    assert tab.inner_text(".report").startswith("<img src=x") and tab.title() == "Try the models"
    assert tab.locator("#result img, #result script, #chosen img").count() == 0
    with tab.expect_download() as download:
        tab.get_by_text("akessfa_mask.png").click()
    assert np.asarray(Image.open(Path(download.value.path()))).shape == (320, 320)
