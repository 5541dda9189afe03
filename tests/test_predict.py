"""``common.predict`` and its command: what inference.json says, from files, arrays and pictures, one or many."""

import json
import shutil
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from common import predict
from common.cli.predict import main
from common.pack import pack
from common.results.inference import Inference
from tests.dicom_files import dicom_file
from tests.test_bundle_contract import BUNDLES
from tests.test_shipped_weights import infer, lobe
from tests.warm import ROOT

BESIDE = {"akessfa": {"report": "A round nodule lies in the middle part."}, "clip_tnseg": {"phrase": "round nodule"}}
FILES = ("mask", "overlay", "attention", "lesions", "burned_in_text")


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    """A file with a picture of a nodule, and its pixels."""
    file = tmp_path_factory.mktemp("picture") / "lobe.png"
    image, _ = lobe()
    Image.fromarray(image).save(file)
    return file, image


@pytest.fixture(scope="module")
def models():
    loaded = {}
    return lambda name: loaded.setdefault(name, predict.load(name, device="cpu"))


def numbers_of(entry):
    """An entry without its names of files."""
    return {key: value for key, value in entry.items() if key not in (*FILES, "image", "images", "study")}


@pytest.mark.parametrize("bundle", BUNDLES)
def test_a_result_is_what_inference_writes(models, picture, bundle, tmp_path):
    file, image = picture
    beside = BESIDE.get(bundle, {})
    (expected,) = infer(bundle, tmp_path / "inference", image=file, **beside)
    result = models(bundle)(str(file), **beside)
    saved = result.save(tmp_path / "saved")
    (entry,) = json.loads((saved / "predictions.json").read_text())
    assert entry == expected and result.to_dict().items() <= entry.items()
    for name in {path.name for path in (tmp_path / "inference").iterdir()} - {"predictions.json"}:
        assert (saved / name).read_bytes() == (tmp_path / "inference" / name).read_bytes(), name
    for given in (image, Image.fromarray(image), np.repeat(image[..., None], 3, axis=2)):
        assert numbers_of(models(bundle)(given, **beside).to_dict()) == numbers_of(result.to_dict())
    assert "data:image/png;base64" in result._repr_html_()


@pytest.mark.parametrize("bundle", BUNDLES)
def test_a_list_is_answered_in_its_order_and_in_batches(models, picture, bundle):
    image = picture[1]
    given = [image, image[::-1], image[:, ::-1]]
    beside = BESIDE.get(bundle, {})
    several = models(bundle)(given, **{name: [text] * 3 for name, text in beside.items()})
    assert isinstance(several, predict.Results) and len(several) == 3
    for single, result in zip(given, several, strict=True):
        alone, together = models(bundle)(np.ascontiguousarray(single), **beside), result
        if isinstance(alone, predict.Segmentation):
            assert (alone.mask != together.mask).mean() < 1e-3
            np.testing.assert_allclose(alone.probability, together.probability, atol=1e-3)
        elif isinstance(alone, predict.Classification):
            assert alone.probability == pytest.approx(together.probability, abs=1e-3)
        else:
            assert alone.text == together.text


def test_results_are_typed(models, picture):
    file, image = picture
    segmentation = models("akessfa")(file, **BESIDE["akessfa"])
    assert segmentation.mask.shape == image.shape == segmentation.probability.shape
    assert ((segmentation.probability > 0.5) == segmentation.mask).all()
    assert segmentation.area_share == pytest.approx(segmentation.mask.mean()) and "round" in segmentation.keywords
    assert segmentation.report_fit > models("akessfa")(file, report="The isthmus is normal.").report_fit
    assert models("akessfa")(file).report_fit is None
    overlap = 2 * segmentation.probability[segmentation.mask].sum()
    assert segmentation.confidence == pytest.approx(
        overlap / (segmentation.probability.sum() + segmentation.mask.sum()), abs=1e-3
    )
    classification = models("hfcn")(file, mask=segmentation.mask)
    assert classification.label in ("benign", "malignant") and 0 < classification.probability < 1
    assert classification.entry["prob_mask"] is not None
    report = models("sgf")(file)
    assert report.text.startswith(report.sentences[0].text[:5]) and all(
        0 < s.probability <= 1 for s in report.sentences
    )
    assert {"overlay", "mask"} <= segmentation.pictures().keys()
    assert len(report.attention) == len(report.sentences) and report.attention[0].shape[0] == 1


@pytest.mark.parametrize("bundle", ["akessfa", "clip_tnseg"])
def test_probabilities_are_written_on_request(models, picture, bundle, tmp_path):
    file, beside = picture[0], BESIDE[bundle]
    (entry,) = infer(bundle, tmp_path, image=file, probabilities=True, **beside)
    written = np.asarray(Image.open(tmp_path / entry["probability"]))
    expected = models(bundle)(file, **beside)
    np.testing.assert_allclose(written / 255, expected.probability, atol=3e-3)
    assert ((written > 127) == expected.mask).mean() > 0.999


def test_a_blank_image_has_no_confidence_and_an_empty_mask_no_size(models):
    result = models("akessfa")(np.zeros((80, 100), np.uint8), report="")
    assert (result.confidence is None) == (not result.mask.any()) and result.probability.shape == (80, 100)


def test_dicom_gives_sizes_and_objects(models, tmp_path):
    image = dicom_file(tmp_path / "image.dcm", lobe()[0], PixelSpacing=[0.1, 0.2])
    result = models("akessfa")(image, report="")
    assert result.size_mm["area_mm2"] == pytest.approx(result.mask.sum() * 0.02, rel=1e-3) and "mm" in result.summary()
    result.save(tmp_path / "out", dicom=True)
    assert list((tmp_path / "out").glob("*.dcm"))


def test_what_a_bundle_does_not_read_is_refused(models, picture):
    with pytest.raises(TypeError, match="report: hfcn reads mask beside an image; leave it out"):
        models("hfcn")(picture[0], report="x")
    with pytest.raises(ValueError, match=r"report: 2 for 1 images; pass one for all, or one for each"):
        models("akessfa")([picture[0]], report=["a", "b"])
    with pytest.raises(ValueError, match=r"image: an array of shape \(2, 2, 2, 2\); expected \(H, W\)"):
        models("akessfa")(np.zeros((2, 2, 2, 2)))


def test_saved_results_are_not_overwritten_unasked(models, picture, tmp_path):
    result = models("hfcn")(picture[0])
    result.save(tmp_path)
    with pytest.raises(FileExistsError, match=r"holds predictions\.json"):
        result.save(tmp_path)
    result.save(tmp_path, overwrite=True)
    with pytest.raises(ValueError, match="holds the images"):
        result.save(picture[0].parent)


def test_a_zip_or_a_folder_is_loaded_and_another_name_is_answered_with_the_nearest(picture, tmp_path):
    archive = pack(ROOT / "bundles" / "hfcn", tmp_path)
    results = [predict.load(path, device="cpu")(picture[0]).to_dict() for path in (archive, ROOT / "bundles" / "hfcn")]
    assert results[0] == results[1]
    with pytest.raises(ValueError, match=r"'hfnc' is no name, .* of a bundle; the nearest name is 'hfcn'"):
        predict.load("hfnc")
    with pytest.raises(ValueError, match="device: 'gpu' is no device; pass cpu, cuda or cuda:N"):
        predict.load("hfcn", device="gpu")
    with pytest.raises(ValueError, match="device: 'cuda:99' is not here"):
        predict.load("hfcn", device="cuda:99")
    (tmp_path / "broken.zip").write_bytes(b"no zip")
    with pytest.raises(ValueError, match=r"broken.zip' is no packed bundle"):
        predict.load(tmp_path / "broken.zip")


def test_the_command_names_what_it_leaves_out_and_does_the_rest(picture, tmp_path, caplog):
    images = tmp_path / "images"
    images.mkdir()
    for name in "ab":
        shutil.copy(picture[0], images / f"{name}.png")
    (images / "c.png").write_bytes(b"no picture")
    out = tmp_path / "out"
    with caplog.at_level("INFO"):
        assert main(["hfcn", str(images), "nowhere.png", "--out", str(out), "--device", "cpu"]) == 1
    told = [record.message for record in caplog.records]
    assert any("c.png" in line and "damaged" in line for line in told) and "no file 'nowhere.png'" in told
    assert told[-1] == f"2 done; 2 left out, named above. Open {out / 'index.html'}"
    assert len(json.loads((out / "predictions.json").read_text())) == 2
    assert main(["hfcn", str(images), "--out", str(out)]) == 2
    assert main(["hfcn", str(images / "a.png"), "--out", str(out), "--overwrite", "--device", "cpu"]) == 0
    assert main(["hfcn", str(picture[0]), "--report", "x", "--out", str(tmp_path / "other")]) == 2
    with pytest.raises(SystemExit):
        main(["hfcn", str(picture[0]), "--batch-size", "0"])


def test_what_was_done_is_there_when_the_rest_is_not(picture, tmp_path, monkeypatch):
    """Images are read batch by batch, and each result is written as it comes."""
    images = [str(shutil.copy(picture[0], tmp_path / f"{name}.png")) for name in "abcde"]
    read, prepare_each = [], Inference.prepare_each

    def interrupted(self, cases, failed):
        if len(read) == 4:
            raise KeyboardInterrupt
        read.extend(self.name_of(case) for case in cases)
        return prepare_each(self, cases, failed)

    monkeypatch.setattr(Inference, "prepare_each", interrupted)
    out = tmp_path / "out"
    assert main(["hfcn", *images, "--out", str(out), "--device", "cpu", "--batch-size", "2"]) == 130
    assert read == images[:4]
    assert [entry["image"] for entry in json.loads((out / "predictions.json").read_text())] == images[:4]
    assert (out / "index.html").is_file()


def test_a_call_that_failed_does_not_answer_for_the_next(models, picture, monkeypatch):
    """Another image after an error in the middle of a batch: its own result, of its own size."""
    model, image = models("akessfa"), picture[1]
    expected = model(image[:100, :120], report="x").mask

    def broken(*_):
        raise RuntimeError("broken")

    with monkeypatch.context() as patch:
        patch.setattr(model.inference.predictions, "show", broken)
        with pytest.raises(RuntimeError, match="broken"):
            model([image, image], report="first")
    after = model(image[:100, :120], report="x")
    assert after.entry["report"] == "x" and (after.mask == expected).all()


def test_threads_do_not_mix_answers(models, picture):
    model, sizes = models("clip_tnseg"), [(80, 90), (120, 60), (100, 100), (64, 128)]
    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda size: model(picture[1][: size[0], : size[1]]), sizes * 3))
    assert [result.mask.shape for result in results] == sizes * 3


def test_integers_of_any_kind_are_one_image(models, picture):
    image = picture[1]
    expected = models("akessfa")(image, report="").probability
    for given in (image.astype(np.int64), image.astype(np.int16), Image.fromarray(image).convert("I")):
        np.testing.assert_allclose(models("akessfa")(given, report="").probability, expected, atol=0.02)
    assert models("akessfa")(Image.fromarray(image).convert("CMYK"), report="").mask.shape == image.shape


def test_each_image_has_the_mask_of_its_name(picture, tmp_path, caplog):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        for name in "ab":
            shutil.copy(picture[0], tmp_path / folder / f"{name}.png")
    given = [str(tmp_path / "images" / f"{name}.png") for name in "ab"]
    out = ["--out", str(tmp_path / "out"), "--device", "cpu"]
    assert main(["hfcn", *given, "--mask", str(tmp_path / "masks"), *out]) == 0
    entries = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert all(entry["prob_mask"] is not None for entry in entries) and len(entries) == 2
    assert main(["hfcn", *given, "--mask", str(tmp_path / "masks" / "a.png"), *out, "--overwrite"]) == 2
    assert "one mask for 2 images" in caplog.text
    (tmp_path / "masks" / "b.png").unlink()
    assert main(["hfcn", *given, "--mask", str(tmp_path / "masks"), *out, "--overwrite"]) == 1
    assert main(["hfcn", given[0], "--out", str(tmp_path / "images")]) == 2 and "holds the images" in caplog.text


def test_a_picture_is_turned_as_its_file_is(models, picture, tmp_path):
    turned = Image.fromarray(picture[1]).transpose(Image.Transpose.ROTATE_90)
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(tmp_path / "turned.png", exif=exif)
    expected = models("akessfa")(tmp_path / "turned.png", report="").mask
    with Image.open(tmp_path / "turned.png") as opened:
        assert (models("akessfa")(opened, report="").mask == expected).all()


def test_texts_come_from_files_and_columns(models, picture, tmp_path):
    (tmp_path / "report.txt").write_text(BESIDE["akessfa"]["report"])
    model = models("akessfa")
    expected = model(picture[0], **BESIDE["akessfa"]).entry
    for report in (tmp_path / "report.txt", np.array([BESIDE["akessfa"]["report"]])):
        assert model(picture[0], report=report).entry == expected
    for missing in (float("nan"), pd.NA):
        assert model(picture[0], report=missing).entry == model(picture[0]).entry
    for report in (5, b"a nodule", {"a": 1}):
        with pytest.raises(TypeError, match=r"^report: .* expected a text, or a \.txt file"):
            model(picture[0], report=report)
    with pytest.raises(ValueError, match=r"^report: .* is no text in Unicode"):
        model(picture[0], report="\udcff")


@pytest.mark.parametrize(
    ("options", "message"),
    [({"batch_size": 0}, "^batch_size: 0"), ({"batch_size": "x"}, "^batch_size: 'x'"), ({"device": "meta"}, "^device")],
)
def test_bad_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        predict.load("akessfa", **options)


def test_an_array_without_a_number_is_one_line(models):
    with pytest.raises(ValueError, match=r"^image: .* has no pixel that is a finite number"):
        models("akessfa")(np.full((50, 60), np.nan), report="")


def test_a_name_that_is_no_text_is_done_like_the_others(picture, tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("good.png", "bad\udcff.png"):
        shutil.copy(picture[0], tmp_path / "in" / name)
    assert main(["clip_tnseg", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--device", "cpu"]) == 0
    entries = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert {entry["image"].rpartition("/")[2] for entry in entries} == {"good.png", "bad\udcff.png"}
    assert (tmp_path / "out" / "index.html").is_file()


def test_frames_and_masks_are_counted_and_a_missing_mask_is_named(picture, tmp_path, caplog):
    dicom_file(tmp_path / "clip.dcm", np.stack([picture[1]] * 3), NumberOfFrames=3)
    out = ["--out", str(tmp_path / "out"), "--device", "cpu"]
    assert main(["hfcn", str(tmp_path / "clip.dcm"), "--mask", str(picture[0]), *out]) == 2
    assert "has 1 pictures" in caplog.text and "has 3 frames; pass a mask for each" in caplog.text
    assert main(["hfcn", str(picture[0]), "--mask", str(tmp_path / "none.png"), *out]) == 2
    assert "mask: no file or folder" in caplog.text
