"""What a bundle says of an image or a study, in Python's types, with its pictures and files."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from common.engine.failures import FAILURES
from common.results.inference import Answer
from common.results.predictions import PredictionFiles
from common.results.saving import Saver


@dataclass(frozen=True, eq=False)
class Result:
    """What a bundle says of one image or study.

    Attributes:
        name: the image's file, or the study.
        entry: as in ``predictions.json``.
    """

    name: str
    entry: Mapping[str, Any] = field(repr=False)
    answer: Answer = field(repr=False)
    writer: PredictionFiles = field(repr=False)
    files: object = field(repr=False)  # that its pictures are drawn from

    @property
    def familiarity(self) -> float | None:
        """How like the training images it is, in [0, 1] (:mod:`common.metrics.familiarity`); None: not known."""
        return self.entry.get("familiarity")

    @property
    def warning(self) -> str | None:
        """A sentence where it is unlike them."""
        return self.entry.get("warning")

    @property
    def attention(self) -> Sequence[np.ndarray]:
        """Where each word of a report that was given, or each sentence of a generated one, looks: (views, h, w)."""
        return self.answer.shown.attention

    def to_dict(self) -> dict[str, Any]:
        """The entry of ``predictions.json``: numbers, texts, lists."""
        return dict(self.entry)

    def pictures(self) -> dict[str, Image.Image]:
        """What inference draws of it, such as "overlay", "attention" and "mask"."""
        return {key: draw() for key, draw in self.answer.shown.pictures.items()}

    def show(self) -> None:
        """Open its first picture that is no mask with the system's viewer; in a notebook, name the result instead."""
        self._main_picture().show(title=self.name)

    def save(self, folder: str | Path, *, dicom: bool = False, overwrite: bool = False) -> Path:
        """:meth:`Results.save` of this result alone."""
        return Results([self]).save(folder, dicom=dicom, overwrite=overwrite)

    def _main_picture(self) -> Image.Image:
        pictures = self.answer.shown.pictures
        return next(draw for key, draw in pictures.items() if key != "mask" or len(pictures) == 1)()

    def summary(self) -> str:
        """The result in some words."""
        return ""

    def line(self) -> str:
        """The summary and the warning."""
        return "; ".join(part for part in (self.summary(), self.warning) if part)

    def _repr_html_(self) -> str:
        buffer = io.BytesIO()
        self._main_picture().save(buffer, "png")
        source = base64.b64encode(buffer.getvalue()).decode()
        told = html.escape(f"{Path(self.name).name}: {self.line()}")
        return (
            f'<figure><img src="data:image/png;base64,{source}" alt="{told}"><figcaption>{told}</figcaption></figure>'
        )


@dataclass(frozen=True, eq=False)
class Refusal(Result):
    """No answer, since the image is unlike the training images (``refuse_unfamiliar``)."""

    def _main_picture(self) -> Image.Image:
        raise ValueError(f"{self.name}: there is no picture of an image that was refused")

    def _repr_html_(self) -> str:
        return f"<p>{html.escape(f'{Path(self.name).name}: {self.line()}')}</p>"


@dataclass(frozen=True, eq=False)
class Segmentation(Result):
    """A nodule's outline.

    Attributes:
        mask: boolean (H, W), of the image's own size.
        probability: of each pixel, float (H, W) in [0, 1]; the mask is where it is above 0.5.
        area_share: of the image, in [0, 1].
        confidence: in [0, 1], to rank images by (:func:`common.results.findings.confidence_of`); None of an empty mask.
        expected_dice: the mean Dice of masks with this confidence (:mod:`common.results.expected_dice`); None of an
            empty mask, of an image unlike the training's, of a doubted report, and where nothing was fitted.
        nodules: the outlined pieces, the largest first: box, share of the image, mean probability of its pixels.
        size_mm: area (mm^2), long and short axis of the largest piece (mm); empty where the file tells no pixel size.
        keywords: words of the report that are about this image.
        sentence: of the report, that is about this image; None without a report.
        report_fit: how well the report's sentences fit the nodule, a log score, higher for the patient's own report
            than for most others'; how often, the card says. None without a report.
        report_doubt: that the report may be another patient's; None where it fits, or nothing was fitted to tell it by.
    """

    mask: np.ndarray = field(repr=False)
    probability: np.ndarray = field(repr=False)
    area_share: float
    confidence: float | None
    size_mm: Mapping[str, float]
    expected_dice: float | None = None
    nodules: Sequence[Mapping[str, Any]] = ()
    keywords: Sequence[str] = ()
    sentence: str | None = None
    report_fit: float | None = None
    report_doubt: str | None = None

    def summary(self) -> str:
        axes = {key.removesuffix("_mm").replace("_", " "): v for key, v in self.size_mm.items() if key.endswith("_mm")}
        sizes = "".join(f", {axis} {value:g} mm" for axis, value in axes.items())
        known = {"confidence": self.confidence, "expected Dice": self.expected_dice}
        sure = "".join(f", {name} {value:.2f}" for name, value in known.items() if value is not None)
        doubt = f"; {self.report_doubt}" if self.report_doubt else ""
        return f"nodule on {self.area_share:.1%} of the image{sizes}{sure}{doubt}"


@dataclass(frozen=True, eq=False)
class Classification(Result):
    """Benign or malignant.

    Attributes:
        label: "benign" or "malignant".
        probability: of malignant, in [0, 1].
        threshold: at and above which ``label`` is malignant.
        calibrated: the probability of malignant, as often right as it says; None where that is not known.
        unsure: whether ``calibrated`` lies where neither class is sure.
    """

    label: str
    probability: float
    threshold: float
    calibrated: float | None = None
    unsure: bool | None = None

    def summary(self) -> str:
        unsure = "unsure, rather " if self.unsure else ""
        known = "" if self.calibrated is None else f", calibrated {self.calibrated:.2f}"
        said = f"probability of malignant {self.probability:.2f} (threshold {self.threshold:.2f})"
        return f"{unsure}{self.label}, {said}{known}"


@dataclass(frozen=True)
class Sentence:
    """A generated sentence.

    Attributes:
        probability: mean of its words, in [0, 1].
        right: share of sentences of this probability that are right; None where that was not fitted.
        unseen, denied_but_seen: lesions that it states or denies, against the detector.
    """

    text: str
    probability: float
    unseen: Sequence[str] = ()
    denied_but_seen: Sequence[str] = ()
    right: float | None = None


@dataclass(frozen=True)
class Box:
    """A detected lesion: ``x, y, width, height`` in pixels of the first view, ``score`` in [0, 1], sizes if known."""

    label: str
    score: float
    box: tuple[float, float, float, float]
    width_mm: float | None = None
    height_mm: float | None = None


@dataclass(frozen=True, eq=False)
class Report(Result):
    """A generated report.

    Attributes:
        text: the report.
        sentences: of it, in order.
        boxes: detected lesions; empty of a bundle without a detector.
        unreported: lesions of top-scoring boxes that no sentence speaks of.
    """

    text: str
    sentences: Sequence[Sentence]
    boxes: Sequence[Box] = ()
    unreported: Sequence[str] = ()

    def summary(self) -> str:
        return self.text


class Results(list[Result]):
    """Results of several images or studies, in their order."""

    def to_dict(self) -> list[dict[str, Any]]:
        """The entries of ``predictions.json``."""
        return [result.to_dict() for result in self]

    def save(self, folder: str | Path, *, dicom: bool = False, overwrite: bool = False) -> Path:
        """Write what inference writes: pictures, ``predictions.json`` and the page ``index.html``; return ``folder``.

        Args:
            dicom: DICOM objects, too; every image must be DICOM.
            overwrite: results that ``folder`` holds may be replaced.

        Raises:
            FileExistsError: ``folder`` holds results.
            ValueError: it holds the images; ``dicom`` of other images.
        """
        if not self:
            raise ValueError("there are no results to save")
        names = [result.name for result in self]
        saver = Saver(self[0].writer, Path(folder), names=names, dicom=dicom, overwrite=overwrite)
        saver.writer.check([image for result in self for image in result.answer.shown.images or [result.name]])
        for index, result in enumerate(self):
            saver.require_free(index, result.answer.shown)
        for index, result in enumerate(self):
            saver.write(index, result.name, result.answer.shown)
        saver.finish()
        for reason in FAILURES.take().values():
            raise ValueError(reason)
        return Path(folder)

    def _repr_html_(self) -> str:
        return "".join(result._repr_html_() for result in self)
