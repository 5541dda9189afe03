"""One file that cannot be read or written is named, and the others are done."""

import errno
import json
import os
import re
import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
from hfcn.data import list_cases
from monai.engines import SupervisedTrainer
from PIL import Image

from common.cli.atomic import whole_file
from common.datasets.layouts import list_each
from common.datasets.studies import list_studies
from common.engine.failures import FAILURES, line_of
from common.images.dicom import pixel_spacing
from common.results.predictions import PredictionFiles, Shown
from tests.test_dicom import dicom_file

SPECKLE = np.random.default_rng(0).integers(0, 256, (60, 80)).astype(np.uint8)


def huge_png(path):
    """A file whose header tells 30,000 x 30,000 pixels."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", 30_000, 30_000, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)))


def odd_dicom(**values):
    def write(path):
        dicom_file(path, SPECKLE)
        from pydicom import dcmread

        data = dcmread(path)
        for name, value in values.items():
            setattr(data, name, value)
        data.save_as(path)

    return write


BAD = {
    "a.png": lambda path: path.write_bytes(b""),
    "bomb.png": huge_png,
    "rows.dcm": odd_dicom(Rows=None),
    "frames.dcm": odd_dicom(NumberOfFrames=["1", "2"]),
    "text.dcm": lambda path: path.write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 64),
    "cut.jpg": lambda path: path.write_bytes(b"\xff\xd8\xff\xe0" + b"\0" * 20),
}


@pytest.mark.parametrize("name", BAD)
def test_a_damaged_file_is_left_out_by_name(tmp_path, name):
    for sound in ("one.png", "two.png"):
        (tmp_path / sound.removesuffix(".png")).mkdir()
        Image.fromarray(SPECKLE).save(tmp_path / sound)
        Image.fromarray(SPECKLE).save(tmp_path / sound.removesuffix(".png") / sound)
    BAD[name](tmp_path / name)
    assert list_each(str(tmp_path)) == [str(tmp_path / sound) for sound in ("one.png", "two.png")]
    ((left_out, reason),) = FAILURES.take().items()
    assert left_out.endswith(name) and "\n" not in reason
    for file in tmp_path.glob("*.*"):
        file.unlink()
    (tmp_path / "three").mkdir()
    BAD[name](tmp_path / "three" / name)
    studies = list_studies(image=str(tmp_path), data_dir=None, views=2)
    assert [study["study"] for study in studies] == ["one", "two"] and len(FAILURES.take()) == 1


def test_a_mask_that_is_damaged_takes_its_image_along(tmp_path):
    for folder in ("images", "masks"):
        (tmp_path / folder).mkdir()
        for name in "abc":
            Image.fromarray(SPECKLE).save(tmp_path / folder / f"{name}.png")
    (tmp_path / "images" / "a.png").write_bytes(b"x")
    (tmp_path / "masks" / "b.png").write_bytes(b"x")
    cases = list_cases(image=str(tmp_path / "images"), mask=str(tmp_path / "masks"), data_dir=None)
    assert [case["image"][-5:] for case in cases] == ["c.png"] and cases[0]["label"].endswith("masks/c.png")
    assert len(FAILURES.take()) == 2


def test_a_listing_that_failed_leaves_nothing_for_the_next(tmp_path):
    for folder in ("bad", "good"):
        (tmp_path / folder).mkdir()
    for name in "ab":
        (tmp_path / "bad" / f"{name}.png").write_bytes(b"x")
        Image.fromarray(SPECKLE).save(tmp_path / "good" / f"{name}.png")
    with pytest.raises(ValueError, match=r"a\.png"):
        list_each(str(tmp_path / "bad"))
    assert len(list_each(str(tmp_path / "good"))) == 2 and not FAILURES.take()


def test_a_result_that_cannot_be_written_does_not_end_the_run(tmp_path):
    def show(name, item, data):
        if name == "b.png":
            raise ZeroDivisionError
        return Shown(pictures={"mask": lambda: Image.fromarray(SPECKLE)}, entry={"item": item})

    (tmp_path / "c_mask.png").mkdir()
    files = PredictionFiles(output_dir=str(tmp_path), show=show, title="T: x", note="")
    cases = [{"image": f"{name}.png"} for name in "abc"]
    engine = SupervisedTrainer.__new__(SupervisedTrainer)  # only its state is read
    engine.data_loader = SimpleNamespace(dataset=cases)
    engine.state = SimpleNamespace(output=[{"n": 1}, {"n": 2}, {"n": 3}], batch=cases)
    files._begin(engine)
    files._collect(engine)
    with pytest.raises(ValueError, match=r"2 left out, named in .*failures\.json"):
        files._finish(engine)
    assert [entry["image"] for entry in json.loads((tmp_path / "predictions.json").read_text())] == ["a.png"]
    reasons = json.loads((tmp_path / "failures.json").read_text())
    assert list(reasons) == ["b.png", "c.png"] and "ZeroDivisionError" in reasons["b.png"]


def test_a_full_disk_names_the_file_that_has_no_room(tmp_path):
    with pytest.raises(OSError, match=r"No space left on device: .*a\.json") as caught, whole_file(tmp_path / "a.json"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert line_of(caught.value).endswith("a.json'") and not list(tmp_path.iterdir())


def test_tensors_that_find_no_room_name_their_file(tmp_path):
    """torch tells of a position in its archive."""
    program = (
        "import resource, torch; from common.cli.atomic import whole_file; "
        "from common.engine.tensor_files import save_tensors; "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (10000, 10000))\n"
        f"with whole_file({str(tmp_path / 'model.pt')!r}) as part: save_tensors([torch.zeros(9999)], part)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 1 and re.search(r"OSError: \[Errno 27\] .*model\.pt'", done.stderr), done.stderr
    assert not list(tmp_path.iterdir())


def test_results_do_not_go_among_the_images(tmp_path):
    files = PredictionFiles(output_dir=str(tmp_path), show=None, title="T: x", note="")
    engine = SimpleNamespace(
        data_loader=SimpleNamespace(dataset=SimpleNamespace(data=[{"image": str(tmp_path / "a.png")}]))
    )
    with pytest.raises(ValueError, match=r"output_dir: .* holds the images, such as .*a\.png"):
        files._begin(engine)


@pytest.mark.parametrize("spacing", [["1e-300", "1"], ["1e200", "1e200"], ["0", "1"], ["1", "2", "3"]])
def test_a_spacing_that_no_pixel_has_is_none(tmp_path, spacing):
    assert pixel_spacing(str(dicom_file(tmp_path / "a.dcm", SPECKLE, PixelSpacing=spacing))) is None


def test_an_error_that_says_nothing_is_told_by_its_kind():
    assert line_of(ZeroDivisionError()) == "ZeroDivisionError" and line_of(ValueError("a\nb")) == "a"


def test_a_package_that_is_not_installed_is_named_and_a_broken_one_is_not_taken_for_it(tmp_path, monkeypatch):
    from common.cli.given import import_package

    with pytest.raises(ValueError, match=r"some-package is not installed, .* pip install some-package, or .*\[extra\]"):
        import_package("nowhere_to_be_found", package="some-package", extra="extra")
    (tmp_path / "broken_package.py").write_text("import nowhere_to_be_found\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ModuleNotFoundError, match="nowhere_to_be_found"):
        import_package("broken_package", package="broken", extra="extra")


def test_each_thread_knows_its_own_failures(tmp_path):
    Image.fromarray(SPECKLE).save(tmp_path / "sound.png")
    (tmp_path / "damaged.png").write_bytes(b"")

    def listed():
        list_each(str(tmp_path))
        return FAILURES.take()

    list_each(str(tmp_path))
    with ThreadPoolExecutor(1) as other:
        assert len(other.submit(listed).result()) == 1
    assert len(FAILURES.take()) == 1
