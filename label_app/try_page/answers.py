"""A result as the page shows it: the entry of ``predictions.json``, images with what is laid over them, files."""

from __future__ import annotations

import base64
import json
import mimetypes
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from common.engine.failures import line_of
from common.images.dicom import is_dicom
from common.images.files import frames_of, open_image, to_grey
from common.results.drawing import FLAT, stand_out
from common.results.findings import mask_size
from common.results.predictions import probability_picture
from common.results.typed import Classification, Report, Result, Segmentation
from label_app.served_bundle import ServedBundle, public

from . import layers
from .uploads import Question, require_sizes

DICOM_TYPE = "application/dicom"


def answer_to(question: Question, bundle: ServedBundle, folder: Path) -> dict[str, Any]:
    """Ask ``bundle``; ``folder`` takes the files of the results.

    Raises:
        ValueError, FileNotFoundError: an image cannot be read.
    """
    require_sizes(question)
    result = bundle.ask(question.image, question.beside, frame=question.frame)
    files, fault = files_of(result, bundle.name, question.images, folder / "results")
    return {
        "model": bundle.name,
        "entry": public(result.to_dict()),
        "frame": question.frame,
        "frames": 1 if isinstance(result, Report) else len(frames_of(question.image)),
        "views": views_of(result, question.beside.get("mask")),
        "attention": [maps_of(attention) for attention in result.attention],
        "lit": [lit_boxes(sentence, attention, result) for sentence, attention in _sentences(result)],
        "size_px": sizes_in_pixels(result),
        "files": files,
        "fault": fault and question.in_the_persons_words(fault),
    }


def views_of(result: Result, mask: str | None) -> list[dict[str, Any]]:
    """Each image that the model saw, and of a class what its branches look at."""
    images = [to_grey(open_image(str(name))) for name in result.answer.shown.images or [result.name]]
    views = [view_of(image) for image in images]
    if isinstance(result, Segmentation):
        views[0] |= {
            "outline": layers.outline(result.probability),
            "probability": layers.probability(result.probability),
        }
    if mask is not None:
        views[0]["outline"] = layers.outline(np.asarray(to_grey(open_image(mask))) > 0)
    if isinstance(result, Classification):
        views.append(view_of(result.pictures()["overlay"]) | {"is": "branches"})
    return views


def view_of(picture: Image.Image) -> dict[str, Any]:
    """``picture``, and its size in pixels."""
    return {"image": layers.png(picture), "width": picture.width, "height": picture.height}


def maps_of(attention: np.ndarray) -> list[str | None]:
    """Heat maps of ``attention`` (V, h, w), one for each view; empty where it is everywhere alike."""
    above = stand_out(attention)
    return [] if above is None else [layers.heat(view) for view in above]


def _sentences(result: Result) -> Iterator[tuple[dict[str, Any], np.ndarray]]:
    """Each generated sentence of the entry, and where it looks."""
    return zip(result.entry.get("sentences", ()), result.attention, strict=False)


def lit_boxes(sentence: dict[str, Any], attention: np.ndarray, result: Result) -> list[float]:
    """How strongly each box is shown for a sentence: wholly if it names the lesion, else by its share of attention."""
    boxes = result.entry.get("boxes", ())
    shares = np.resize([*sentence.get("regions", ()), *[0.0] * len(boxes)], len(boxes))
    even = 1 / (attention.size + len(sentence.get("regions", ())))
    seen = shares / shares.max() if (shares >= FLAT * even).any() else np.zeros(len(boxes))
    named = [box["label"] in sentence.get("stated", ()) for box in boxes]
    return [round(float(max(share, name)), 2) for share, name in zip(seen, named, strict=True)]


def sizes_in_pixels(result: Result) -> dict[str, float]:
    """Area and axes of a mask in pixels, for images that do not tell their millimetres."""
    if not isinstance(result, Segmentation) or result.size_mm:
        return {}
    sizes = mask_size(result.mask, (1.0, 1.0))
    return {key.replace("_mm2", "_px").replace("_mm", "_px"): value for key, value in sizes.items()}


def files_of(
    result: Result, model: str, images: Sequence[Path], folder: Path
) -> tuple[list[dict[str, str]], str | None]:
    """The files of the results to download, and why there is no DICOM among them though the images are."""
    dicom, fault = all(is_dicom(image) for image in images), None
    try:
        result.save(folder, dicom=dicom)
    except ValueError as error:
        fault = line_of(error)
    if isinstance(result, Segmentation):
        probability_picture(result.probability).save(folder / "image_1_probability.png")
    entry = json.dumps(public(result.to_dict()), indent=2, ensure_ascii=False)
    told = [_file(f"{model}.json", entry.encode())]
    return [*told, *_written(model, folder)], fault


def _written(model: str, folder: Path) -> Iterator[dict[str, str]]:
    for path in sorted([*folder.glob("*.png"), *folder.glob("*.dcm")]):
        yield _file(f"{model}_{path.stem.rpartition('_')[2]}{path.suffix}", path.read_bytes())


def _file(name: str, content: bytes) -> dict[str, str]:
    kind = DICOM_TYPE if name.endswith(".dcm") else str(mimetypes.guess_type(name)[0])
    return {"name": name, "type": kind, "content": base64.b64encode(content).decode()}
