"""A trained bundle in a few lines of Python, without a config.

``model = load("akessfa")`` reads its weights once; ``model("image.png", report="...")`` gives a :class:`Segmentation`,
a :class:`Classification` or a :class:`Report`, by the same code as ``configs/inference.json``.
"""

from __future__ import annotations

import copy
import math
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps

from common.cli.code import check_code
from common.cli.given import require_weights
from common.cli.trained import Trained, find
from common.results.inference import Answer, Inference
from common.results.predictions import is_refused
from common.results.typed import Box, Classification, Refusal, Report, Result, Results, Segmentation, Sentence

Picture = str | Path | np.ndarray | Image.Image


class _Files:
    """Arrays and pictures as files, without loss; they are removed with the last result that was made of them."""

    def __init__(self) -> None:
        self.folder: Path | None = None

    def name_of(self, image: Picture, stem: str) -> str:
        """The file that ``image`` lies in."""
        if isinstance(image, str | Path):
            return str(image)
        if isinstance(image, np.ndarray):
            image = _picture(image)
        if not isinstance(image, Image.Image):
            raise TypeError(
                f"image: {type(image).__name__}; expected a file, a folder, an array or a picture of Pillow"
            )
        if self.folder is None:
            self.folder = Path(tempfile.mkdtemp(prefix="predict-"))
            weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        image = ImageOps.exif_transpose(image)
        if image.mode not in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "F"):
            image = image.convert("F" if image.mode.startswith("I") else "RGB")
        file = (self.folder / stem).with_suffix(".tiff" if image.mode == "F" else ".png")
        image.save(file)
        return str(file)


class Model:
    """A trained bundle in memory; see :func:`load`.

    Attributes:
        name: the bundle's.
        reads: what it takes beside an image: some of "report", "phrase", "mask".
    """

    def __init__(self, trained: Trained, *, device: str | None, batch_size: int, refuse_unfamiliar: bool) -> None:
        self.name = trained.folder.name
        overrides = {"refuse_unfamiliar": True} if refuse_unfamiliar else {}
        self.inference = Inference(trained, device=device, batch_size=batch_size, overrides=overrides)
        self.reads = self.inference.reads

    def __call__(
        self, image: Picture | Sequence[Picture], **beside: str | Picture | Sequence[str | Picture | None] | None
    ) -> Result | Results:
        """Predict for one image, or for each of a list.

        Args:
            image: a file (PNG, JPEG, TIFF, DICOM, a slice in NIfTI), a folder, an array (H, W) or (H, W, 3), or a
                picture of Pillow; or a list of these. Of a folder each image, of a DICOM clip each frame is a case; a
                report is generated of all views in a folder together. Integers of 0 to 255 are grey values as they
                are; other numbers are stretched over their range, as 16-bit files are.
            beside: what the bundle reads, by its name: ``report``, ``phrase`` (a text, or a ``.txt`` file; None and
                NaN: none) or ``mask`` (as an image); one for all images, or a list, array or column with one for each.

        Returns:
            Of one image with one result that result, else :class:`Results`.

        Raises:
            FileNotFoundError, ValueError: an image cannot be read.
            TypeError: the bundle does not read what is given beside the images, or it is no text.
        """
        self.require_read(beside)
        several = isinstance(image, Sequence) and not isinstance(image, str)
        images: list[Any] = list(image) if several else [image]  # type: ignore[arg-type]
        files = _Files()
        cases = []
        for index, single in enumerate(images):
            given = {id: _of_each(value, index, len(images), id) for id, value in beside.items()}
            for id, value in given.items():
                if id != "mask":
                    given[id] = _text_of(value, id)
                elif value is not None:
                    given[id] = files.name_of(value, f"mask_{index + 1}")
            cases += self.inference.read(files.name_of(single, f"image_{index + 1}"), **given)
        results = Results(self.of_cases(cases, files))
        return results if several or len(results) != 1 else results[0]

    def of_cases(self, cases: Sequence[Any], files: _Files | None = None) -> Iterator[Result]:
        """Yield the result of each of ``cases``, which ``inference.read`` gave, batch by batch."""
        size = self.inference.batch_size
        for start in range(0, len(cases), size):
            for answer in self.inference(cases[start : start + size]):
                yield self._result(answer, files)

    def of_listed(self, cases: Sequence[Any], failed: Callable[[str], object]) -> Iterator[tuple[int, Result]]:
        """Yield number and result of each of ``cases``, which ``inference.list_each`` gave; a batch at a time is read.

        Args:
            failed: called with a line for each image that cannot be read.
        """
        size = self.inference.batch_size
        for start in range(0, len(cases), size):
            prepared = self.inference.prepare_each(cases[start : start + size], failed)
            answers = self.inference([case for _, case in prepared]) if prepared else []
            for (number, _), answer in zip(prepared, answers, strict=True):
                yield start + number, self._result(answer, None)

    def require_read(self, beside: Iterable[str]) -> None:
        """Refuse what the bundle does not read.

        Raises:
            TypeError: which, and what it reads.
        """
        unknown = [id for id in beside if id not in self.reads]
        if unknown:
            told = " and ".join(self.reads) if self.reads else "nothing"
            raise TypeError(f"{unknown[0]}: {self.name} reads {told} beside an image; leave it out")

    def _result(self, answer: Answer, files: _Files | None) -> Result:
        writer, entry = self.inference.predictions, answer.entry
        common = {"name": entry[writer.key], "entry": entry, "answer": answer, "writer": writer, "files": files}
        if is_refused(entry):
            return Refusal(**common)
        if "class" in entry:
            numbers = {"probability": entry["prob"], "threshold": entry["threshold"]}
            numbers |= {"calibrated": entry.get("prob_calibrated"), "unsure": entry.get("unsure")}
            return Classification(**common, label=entry["class"], **numbers)
        if "sentences" in entry:
            sentences = [_sentence(told) for told in entry["sentences"]]
            boxes, unreported = _boxes(entry.get("boxes", ())), entry.get("unreported", ())
            return Report(**common, text=entry["report"], sentences=sentences, boxes=boxes, unreported=unreported)
        probabilities = answer.shown.probabilities
        assert probabilities is not None
        sizes = {key: value for key, value in entry.items() if key.endswith(("_mm", "_mm2"))}
        words = {"keywords": entry.get("keywords", ()), "sentence": entry.get("sentence")}
        words |= {key: entry.get(key) for key in ("report_fit", "report_doubt")}
        words |= {"area_share": entry["nodule_area_share"], "confidence": entry["confidence"]}
        words |= {"expected_dice": entry.get("expected_dice"), "nodules": entry["nodules"]}
        mask = np.asarray(answer.shown.pictures["mask"]()) > 0
        return Segmentation(**common, mask=mask, probability=probabilities, size_mm=sizes, **words)


def require_folder(folder: str | Path, model: Model, images: Sequence[str], *, dicom: bool) -> None:
    """Refuse, before anything is predicted, a folder for results that holds the images, and DICOM of other images.

    Raises:
        ValueError: which of the two.
    """
    writer = copy.copy(model.inference.predictions)
    writer.folder, writer.dicom = Path(folder), False
    files = [str(file) for image in images if Path(image).exists() for file in _files_of(Path(image))]
    writer.check(files)
    writer.dicom = dicom
    writer.check([file for image in images if Path(image).is_file() for file in [image]])


def _files_of(image: Path) -> Iterable[Path]:
    return (file for file in image.rglob("*") if file.is_file()) if image.is_dir() else [image]


def load(
    bundle: str | Path, *, device: str | None = None, batch_size: int = 8, refuse_unfamiliar: bool = False
) -> Model:
    """Load a trained bundle, which stays in memory.

    Args:
        bundle: name of one that comes along ("akessfa", "clip_tnseg", "hfcn", "sgf", "d2rnet"), a bundle's folder, a
            packed zip, or an exported archive (``.ts``, ``.pt2``), of which no code runs: the bundle here answers with
            the weights in it.
        device: "cpu", "cuda", "cuda:1"; None: a GPU where there is one.
        batch_size: images that the network sees at once.
        refuse_unfamiliar: images that are unlike the training images have a :class:`Refusal` for a result.

    Raises:
        FileNotFoundError: no such bundle, or it has no weights, or, to refuse, no familiarity beside them.
        ValueError: ``bundle`` is none of these; its weights are damaged; no such device; a batch of no images.
        common.cli.code.CodeConflict: a zip of another version than what is loaded.
    """
    _require_device(device)
    if not isinstance(batch_size, int) or batch_size < 1:
        raise ValueError(f"batch_size: {batch_size!r}; expected a whole number above 0")
    trained = find(bundle)
    check_code(trained.folder)
    if (trained.folder / "large_files.yml").is_file() and not (trained.models / "model.pt").is_file():
        raise FileNotFoundError(
            f"bundle: the weights of {str(bundle)!r} lie elsewhere; unpack it and run python -m monai.bundle "
            "download_large_files --bundle_path FOLDER"
        )
    require_weights(str(trained.models / "model.pt"))
    return Model(trained, device=device, batch_size=batch_size, refuse_unfamiliar=refuse_unfamiliar)


def folder_of(bundle: str | Path) -> Path:
    """Folder of the bundle by its name, or its folder, or a zip, which is unpacked for as long as this process runs.

    Raises:
        ValueError: it is none of these.
    """
    return find(bundle).folder


def _require_device(device: str | None) -> None:
    try:
        asked = torch.device(device or "cpu")
    except RuntimeError as error:
        raise ValueError(f"device: {device!r} is no device; pass cpu, cuda or cuda:N") from error
    if asked.type == "meta":
        raise ValueError(f"device: {device!r} computes nothing; pass cpu, cuda or cuda:N")
    if asked.type == "cuda" and (asked.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device: {device!r} is not here; torch sees {torch.cuda.device_count()} CUDA devices; pass cpu"
        )


def _sentence(told: Mapping[str, Any]) -> Sentence:
    marks = {key: told.get(key, ()) for key in ("unseen", "denied_but_seen")}
    return Sentence(told["text"], told["probability"], **marks, right=told.get("right"))


def _boxes(told: Iterable[Mapping[str, Any]]) -> list[Box]:
    return [
        Box(box["label"] or "lesion", box["score"], tuple(box["box"]), box.get("width_mm"), box.get("height_mm"))
        for box in told
    ]


def _of_each(value: Any, index: int, count: int, id: str) -> Any:
    """``value``, or the one of its list that belongs to the image ``index``; texts may be a column of a table."""
    if id != "mask" and hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        return value
    if len(value) != count:
        raise ValueError(f"{id}: {len(value)} for {count} images; pass one for all, or one for each")
    return value[index]


def _text_of(value: Any, id: str) -> str | None:
    """A report or a phrase; None where there is none, which tables tell as NaN.

    Raises:
        TypeError: ``value`` is no text.
        ValueError: it holds half of a character.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)) or type(value).__name__ == "NAType":
        return None
    if not isinstance(value, str | Path):
        raise TypeError(f"{id}: {value!r} is a {type(value).__name__}; expected a text, or a .txt file")
    try:
        str(value).encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{id}: {str(value)!r} is no text in Unicode; decode it again") from error
    return str(value)


def _picture(array: np.ndarray) -> Image.Image:
    if array.dtype == bool:
        array = array.astype(np.uint8) * 255
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[..., 0]
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        raise ValueError(f"image: an array of shape {array.shape}; expected (H, W), (H, W, 3) or (H, W, 4)")
    if array.dtype.kind in "iu" and array.dtype != np.uint8 and array.size and array.min() >= 0 and array.max() <= 255:
        array = array.astype(np.uint8)
    if array.ndim == 3 and array.dtype != np.uint8:
        raise ValueError(f"image: a colour array of {array.dtype}; expected uint8, or integers from 0 to 255")
    if array.dtype.kind not in "fiu":
        raise ValueError(f"image: an array of {array.dtype}; expected numbers")
    return Image.fromarray(array if array.dtype in (np.uint8, np.uint16) else array.astype(np.float32))
