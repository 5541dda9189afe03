"""Bad inputs of every kind end in one line that names them and spoil nothing; odd but good ones are understood."""

import io
import json
import pickle
import re
import shutil
import unicodedata
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.test_bundle_contract import BUNDLES, TINY, flags, inference_flags, train_files, train_tiny
from tests.warm import ROOT, Running, monai_bundle

LINE = re.compile(r"(\w+Error: |--)\S.*")
GREY = (np.indices((64, 64)).sum(0) * 2).astype(np.uint8)


@pytest.fixture(scope="module", params=BUNDLES)
def made(request, tmp_path_factory):
    """A bundle's name and the folder of its tiny training."""
    return request.param, train_tiny(request.param, tmp_path_factory.mktemp(request.param))[0]


def encoded(picture, kind="PNG", **options):
    stream = io.BytesIO()
    picture.save(stream, kind, **options)
    return stream.getvalue()


class Code:
    def __reduce__(self):
        return (open, ("ran-code", "w"))


def zipped(content):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        file.writestr("x", content)
    return stream.getvalue()


PICTURE = Image.fromarray(GREY)
PNG, JPEG = encoded(PICTURE), encoded(PICTURE, "JPEG")
FLOAT = Image.fromarray(GREY.astype(np.float32))
BAD_IMAGES = {
    "cut.png": PNG[: len(PNG) // 2], "cut.jpg": JPEG[: len(JPEG) // 2], "text.png": b"no picture", "empty.png": b"",
    "zip.png": zipped("x"), "html.jpg": b"<html>404</html>", "flipped.png": PNG[:40] + bytes(9) + PNG[49:],
    "cut.dcm": bytes(128) + b"DICM" + bytes(9), "cut.nii.gz": b"\x1f\x8b\x08\0", "pages.tif": encoded(
        PICTURE, "TIFF", save_all=True, append_images=[PICTURE]), "nothing.tif": encoded(
        Image.fromarray(np.full((8, 8), np.nan, np.float32)), "TIFF"), "cut.tif": encoded(PICTURE, "TIFF")[:99],
    "cut.bmp": encoded(PICTURE, "BMP")[:500],
}  # fmt: skip
with_nan = np.where(GREY > 200, np.nan, GREY).astype(np.float32)
ODD_IMAGES = {
    "one.png": encoded(PICTURE.resize((1, 1))), "wide.png": encoded(PICTURE.resize((900, 6))), "16.png": encoded(
        Image.fromarray(GREY.astype(np.uint16) * 200)), "nan.tif": encoded(Image.fromarray(with_nan), "TIFF"),
    "palette.png": encoded(PICTURE.convert("P")), "alpha.png": encoded(PICTURE.convert("RGBA")), "cmyk.jpg": encoded(
        PICTURE.convert("CMYK"), "JPEG"), "float.tif": encoded(FLOAT, "TIFF"), "name.with.dots..png": PNG,
    unicodedata.normalize("NFD", "é 结节 #1$.png"): PNG, "one-bit.png": encoded(PICTURE.convert("1")),
}  # fmt: skip


def infer(made, out, **options):
    bundle, folder = made
    arguments = inference_flags(bundle, folder, output_dir=out, **{**TINY[bundle]["infer"], **options})
    return monai_bundle("run", "--config_file", f"bundles/{bundle}/configs/inference.json", *arguments)


def refused(done, *named):
    """One line at the end, no traceback, an exit code; it names what is wrong."""
    lines = [line for line in done.stderr.splitlines() if line.strip()]
    assert done.returncode != 0 and lines and LINE.fullmatch(lines[-1]), (done.returncode, lines[-5:])
    assert "Traceback" not in done.stderr and len(lines[-1]) < 900, lines[-1]
    assert all(str(name) in lines[-1] for name in named), (named, lines[-1])
    return lines[-1]


def test_bad_images_are_named(made, tmp_path):
    for name, content in BAD_IMAGES.items():
        (tmp_path / name).write_bytes(content)
        refused(infer(made, tmp_path / "out", image=tmp_path / name), name)
        assert not (tmp_path / "out" / "predictions.json").exists()


def test_odd_images_are_read(made, tmp_path):
    """Some of them each alone, and all as one folder; of studies, with one image each."""
    for number, (name, content) in enumerate(ODD_IMAGES.items()):
        folder = tmp_path / "in" / (str(number) if made[0] in ("sgf", "d2rnet") else "")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
        if number % 4 == 0:
            done = infer(made, tmp_path / "out", image=folder / name)
            assert done.returncode == 0, (name, done.stderr[-500:])
    done = infer(made, tmp_path / "all", image=tmp_path / "in")
    assert done.returncode == 0, done.stderr[-500:]
    assert len(json.loads((tmp_path / "all" / "predictions.json").read_text())) == len(ODD_IMAGES)


def test_bad_weights_are_named(made, tmp_path):
    _, folder = made
    good = (folder / "models" / "model.pt").read_bytes()
    torch.save({"other": torch.ones(3)}, tmp_path / "other.pt")
    contents = {
        "text.pt": b"weights", "empty.pt": b"", "cut.pt": good[: len(good) // 2], "code.pt": pickle.dumps(Code()),
        "zip.pt": zipped("x"), "other.pt": None,
    }  # fmt: skip
    for name, content in contents.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        done = infer(made, tmp_path / "out", weights=tmp_path / name)
        refused(done, *([name] if content is not None else []))
    refused(infer(made, tmp_path / "out", weights=tmp_path), "weights")
    assert not (tmp_path / "ran-code").exists()


def test_a_place_that_cannot_be_written_is_named(made, tmp_path):
    (tmp_path / "file").write_text("x")
    refused(infer(made, tmp_path / "file"), "file")
    refused(infer(made, tmp_path / "file" / "below"), "file")


def train(bundle, root, tmp_path, **options):
    places = {"ckpt_dir": tmp_path / "models", "output_dir": tmp_path / "eval", "dataset_dir": root}
    tiny = {**TINY[bundle]["network"], **TINY[bundle]["train"], **places, "epochs": 1, **options}
    tiny = {key: value for key, value in tiny.items() if not key.startswith(("synthetic", "pretrain"))}
    return monai_bundle("run", "--config_file", f"bundles/{bundle}/configs/train.json", *flags(tiny))


def table(root, rows, *, encoding="utf-8", separator=",", header=("image", "mask", "report_id", "report", "split")):
    """A RATN table with images and masks of its own."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    mask = np.zeros((64, 64), np.uint8)
    mask[20:40, 20:40] = 1
    for number in range(12):
        PICTURE.save(root / "images" / f"{number}.png")
        Image.fromarray(mask).save(root / "masks" / f"{number}.png")
    lines = [separator.join(header), *(separator.join(row) for row in rows)]
    (root / "cases.csv").write_bytes("\n".join(lines).encode(encoding))
    return root


def rows(count=12, *, report="A round nodule is seen.", splits=("train", "train", "validation", "test")):
    return [(f"images/{n}.png", f"masks/{n}.png", f"R{n}", report, splits[n % len(splits)]) for n in range(count)]


GOOD_TABLES = {
    "utf-8 with mark": {"encoding": "utf-8-sig"}, "utf-16": {"encoding": "utf-16"},
    "gbk": {"encoding": "gbk", "rows": rows(report="左叶见低回声结节。")}, "semicolon": {"separator": ";"},
    "tab": {"separator": "\t"}, "capitals": {"header": ("Image", "MASK", " report_id", "Report", "split ")},
    "split words": {"rows": rows(splits=("Train", "TRAINING", "Val", "Test"))},
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD_TABLES)
def test_tables_of_every_origin_are_read(name, tmp_path):
    options = {"rows": rows(), **GOOD_TABLES[name]}
    done = train("akessfa", table(tmp_path / "set", options.pop("rows"), **options), tmp_path)
    assert done.returncode == 0, done.stderr[-600:]


def test_reports_that_say_nothing_are_no_words(tmp_path):
    splits = ("train", "validation", "train", "test")
    some = [(*row[:3], row[3] if n % 4 == 0 else word, row[4]) for n, (row, word) in enumerate(
        zip(rows(splits=splits), ["", "nan", "NaN", "null", "None", "N/A"] * 2, strict=True))]  # fmt: skip
    done = train("akessfa", table(tmp_path / "set", some), tmp_path)
    assert done.returncode == 0, done.stderr[-600:]
    words = json.loads((tmp_path / "models" / "report_tokenizer.json").read_text())["tokenizer"]["model"]["vocab"]
    assert "round" in words and not {"nan", "null", "none"} & set(words)


BAD_TABLES = {
    "no column": ({"header": ("image", "mask", "report_id", "text", "split")}, "cases.csv"),
    "column twice": ({"header": ("image", "mask", "report_id", "report", "report")}, "cases.csv"),
    "unknown split": ({"rows": rows(splits=("train", "hold-out"))}, "hold-out"),
    "open quote": ({"rows": [*rows(8), ("images/8.png", "masks/8.png", "R8", '"open', "train")]}, "cases.csv"),
    "short line": ({"rows": [*rows(8), ("images/8.png", "masks/8.png")]}, "cases.csv"),
    "same image in two splits": ({"rows": [*rows(8), ("images/0.png", "masks/0.png", "R0", "x", "test")]}, "0.png"),
    "same image twice": ({"rows": [*rows(8), rows(1)[0]]}, "0.png"),
    "path that climbs": ({"rows": [*rows(8), ("../secret.png", "masks/0.png", "R9", "x", "train")]}, "secret.png"),
    "absolute path": ({"rows": [*rows(8), ("/etc/passwd", "masks/0.png", "R9", "x", "train")]}, "/etc/passwd"),
    "no such image": ({"rows": [*rows(8), ("images/99.png", "masks/0.png", "R9", "x", "train")]}, "99.png"),
    "no such mask": ({"rows": [*rows(8), ("images/9.png", "masks/99.png", "R9", "x", "train")]}, "99.png"),
    "header alone": ({"rows": []}, "cases.csv"),
    "binary": ({"encoding": "utf-8", "binary": True}, "dataset_dir"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_TABLES)
def test_bad_tables_are_named(name, tmp_path):
    options, named = BAD_TABLES[name]
    options = {"rows": rows(), **options}
    binary = options.pop("binary", False)
    root = table(tmp_path / "set", options.pop("rows"), **options)
    if binary:
        (root / "cases.csv").write_bytes(bytes(range(256)))
    for bundle in ("akessfa", "clip_tnseg", "hfcn"):
        refused(train(bundle, root, tmp_path), named)
        assert not (tmp_path / "models").exists() or not list((tmp_path / "models").glob("*.pt"))


def annotation(**changes):
    entry = {"id": "1", "report": "the heart is normal .", "image_path": ["a.png"]} | changes
    splits = {"train": 6, "val": 2, "test": 2}
    return {split: [{**entry, "id": f"{split}{n}"} for n in range(count)] for split, count in splits.items()}


BAD_ANNOTATIONS = {
    "no JSON": ("{", "annotation.json"), "a list": ("[]", "annotation.json"),
    "no split": ('{"train": []}', "annotation"),
    "deep": ("[" * 100_000, "annotation.json"), "no image": (annotation(image_path=[]), "no image"),
    "image as text": (annotation(image_path="a.png"), "no list"),
    "climbs": (annotation(image_path=["../b.png"]), "b.png"),
    "list of lists": (annotation(image_path=[["a.png"]]), "no file"),
    "missing image": (annotation(image_path=["b.png"]), "b.png"), "no text": (annotation(report=None), "no study"),
    "not a number": (annotation(report=float("nan")), "no study"),
}  # fmt: skip


@pytest.mark.parametrize("bundle", ["sgf", "d2rnet"])
@pytest.mark.parametrize("name", BAD_ANNOTATIONS)
def test_bad_annotations_are_named(bundle, name, tmp_path):
    content, named = BAD_ANNOTATIONS[name]
    (tmp_path / "set" / "images").mkdir(parents=True)
    PICTURE.save(tmp_path / "set" / "images" / "a.png")
    text = content if isinstance(content, str) else json.dumps(content)
    (tmp_path / "set" / "annotation.json").write_text(text, encoding="utf-8")
    refused(train(bundle, tmp_path / "set", tmp_path), named)


def test_a_folder_that_another_run_uses_is_refused(made, tmp_path):
    from common.cli.lock import FolderLock

    lock = FolderLock(tmp_path / "out")
    lock.take()
    refused(infer(made, tmp_path / "out"), "in use by process")
    lock.release()
    (tmp_path / "out" / "x.json.999999999.part.json").write_text("left")
    assert infer(made, tmp_path / "out").returncode == 0
    assert not list((tmp_path / "out").glob("*.part*")) and not list((tmp_path / "out").glob(".in-use"))


def test_masks_of_hfcn_are_paired_by_name(tmp_path):
    bundle, folder = "hfcn", train_tiny("hfcn", tmp_path / "made")[0]
    for name in "abc":
        for kind in ("images", "masks"):
            (tmp_path / kind).mkdir(exist_ok=True)
            shutil.copy(folder / "synthetic" / kind / "P0000_0.png", tmp_path / kind / f"{name}.png")
    options = {"image": tmp_path / "images", "mask": tmp_path / "masks"}
    assert infer((bundle, folder), tmp_path / "out", **options).returncode == 0
    (tmp_path / "masks" / "b.png").rename(tmp_path / "masks" / "d.png")
    refused(infer((bundle, folder), tmp_path / "out", **options), "'b'")
    (tmp_path / "masks" / "d.png").rename(tmp_path / "masks" / "b.png")
    PICTURE.resize((32, 32)).save(tmp_path / "masks" / "c.png")
    refused(infer((bundle, folder), tmp_path / "out", **options), "c.png", "32x32")


BAD_OPTIONS = {
    "image_size": "33", "batch_size": "0", "device": "gpu", "amp": "perhaps", "no_such_id": "1", "output_dir": "",
    "dicom_results": "2", "seeed": "1", "image": "no such file.png",
}  # fmt: skip


def test_bad_options_of_an_inference_are_named(made, tmp_path):
    bundle, folder = made
    config = (ROOT / f"bundles/{bundle}/configs/inference.json").read_text()
    for name, value in BAD_OPTIONS.items():
        if f'"{name}"' in config or name in ("no_such_id", "seeed"):
            options = {"output_dir": tmp_path / "out", **TINY[bundle]["infer"], name: value}
            arguments = inference_flags(bundle, folder, **options)
            done = monai_bundle("run", "--config_file", f"bundles/{bundle}/configs/inference.json", *arguments)
            refused(done, name)
    assert not (tmp_path / "out" / "predictions.json").exists()


def test_an_evaluation_needs_whole_weights_and_its_own_options(made, tmp_path):
    bundle, folder = made
    good = (folder / "models" / "model.pt").read_bytes()
    (tmp_path / "cut.pt").write_bytes(good[: len(good) // 3])
    places = {"ckpt_dir": folder / "models", "synthetic_dir": folder / "synthetic", "output_dir": tmp_path / "out"}
    wrong = {"weights": tmp_path / "cut.pt", "split": "holdout", "batch_size": "none", "image_size": "96"}
    for name, value in wrong.items():
        options = flags({**TINY[bundle]["network"], **places, name: value})
        done = monai_bundle("run", "--config_file", train_files(bundle, "evaluate"), *options)
        refused(done, Path(value).name if name == "weights" else name)
    assert not (tmp_path / "out" / "metrics.json").exists()


def test_an_export_needs_the_networks_own_weights(made, tmp_path):
    bundle, _ = made
    torch.save({"other": torch.ones(3)}, tmp_path / "other.pt")
    (tmp_path / "text.pt").write_text("weights")
    for name in ("other.pt", "text.pt"):  # MONAI itself refuses a missing one, before it reads any config
        options = flags(TINY[bundle]["network"], ckpt_file=tmp_path / name, filepath=tmp_path / "model.ts")
        files = ["--meta_file", f"bundles/{bundle}/configs/metadata.json"]
        files += ["--config_file", f"bundles/{bundle}/configs/inference.json"]
        refused(monai_bundle("ckpt_export", "network_def", *files, *options))
        assert not (tmp_path / "model.ts").exists()


def boxes(**changes):
    images = [{"id": n, "file_name": "a.png", "width": 64, "height": 64} for n in range(1)]
    known = {"id": 1, "image_id": 0, "category_id": 1, "bbox": [4, 4, 9, 9]}
    content = {"images": images, "annotations": [known], "categories": [{"id": 1, "name": "Nodule/Mass"}]}
    return content | changes


BAD_BOXES = {
    "no JSON": "{", "a list": [], "no images": boxes(images=[]), "no categories": boxes(categories=[]),
    "unknown class": boxes(categories=[{"id": 1, "name": "Nodul"}]),
    "three numbers": boxes(annotations=[{"id": 1, "image_id": 0, "category_id": 1, "bbox": [1, 2, 3]}]),
    "no numbers": boxes(annotations=[{"id": 1, "image_id": 0, "category_id": 1, "bbox": ["a", "b", "c", "d"]}]),
    "orphans alone": boxes(annotations=[{"id": 1, "image_id": 7, "category_id": 1, "bbox": [1, 2, 3, 4]}]),
    "no such image": boxes(images=[{"id": 0, "file_name": "b.png", "width": 64, "height": 64}]),
    "climbs": boxes(images=[{"id": 0, "file_name": "../b.png", "width": 64, "height": 64}]),
    "no file name": boxes(images=[{"id": 0, "width": 64, "height": 64}]),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_BOXES)
def test_bad_boxes_are_named(name, tmp_path):
    root = tmp_path / "set"
    root.mkdir()
    PICTURE.save(root / "a.png")
    content = BAD_BOXES[name]
    for split in ("train", "val", "test"):
        (root / f"coco_{split}.json").write_text(content if isinstance(content, str) else json.dumps(content))
    tiny = TINY["d2rnet"]["also"]["train_detector"]
    places = {"ckpt_dir": tmp_path / "models", "output_dir": tmp_path / "eval", "dataset_dir": root}
    options = flags({**tiny, **places, "epochs": 1, "batch_size": 1})
    refused(monai_bundle("run", "--config_file", "bundles/d2rnet/configs/train_detector.json", *options))
    assert not list((tmp_path / "models").glob("*.pt"))


def phrases(**changes):
    task = {"task_id": "0__0", "image_id": 0, "phrase": "a nodule", "Polygons": [[[[1, 1], [9, 1], [9, 9]]]]}
    return [task | changes]


BAD_PHRASES = {
    "no JSON": "{", "a text": '"x"', "no polygons": phrases(Polygons=None), "no phrase": phrases(phrase=None),
    "two corners": phrases(Polygons=[[[[1, 1], [9, 1]]]]), "no such image": phrases(image_id=9),
    "words for corners": phrases(Polygons=[[[["a", 1], [9, 1], [9, 9]]]]),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_PHRASES)
def test_bad_phrases_are_named(name, tmp_path):
    root = tmp_path / "set"
    (root / "images").mkdir(parents=True)
    PICTURE.save(root / "images" / "0.jpg")
    known = [{"image_id": 0, "split": split, "width": 64, "height": 64} for split in ("train",)]
    (root / "image_data_split.json").write_text(json.dumps(known))
    content = BAD_PHRASES[name]
    for split in ("train", "val", "test"):
        (root / f"refer_{split}.json").write_text(content if isinstance(content, str) else json.dumps(content))
    refused(train("clip_tnseg", root, tmp_path))


def test_what_else_is_called_by_hand_names_what_is_wrong(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "metrics.json").write_text("{broken")
    commands = {
        "common.pack": [tmp_path / "nowhere"], "common.visualize": [tmp_path / "run"],
        "common.datasets.convert_boxes": [tmp_path / "nowhere", "--to", "coco", "--target", tmp_path / "new"],
    }  # fmt: skip
    for module, arguments in commands.items():
        done = Running(arguments, module=module).wait()
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        assert done.returncode != 0 and "Traceback" not in done.stderr, (module, lines)
        assert str(arguments[0]) in lines[-1], (module, lines)
