"""What inference of every bundle writes: ``predictions.json``, pictures of each image, DICOM, and one page."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from ignite import distributed as idist
from ignite.engine import Engine, Events
from monai.transforms import Activationsd, AsDiscreted, Compose, CopyItemsd, Invertd
from PIL import Image

from common.cli.atomic import write_json, write_picture
from common.cli.given import import_package
from common.engine.distributed import data_order, gather, is_first
from common.engine.failures import FAILURES, NoNumberError, line_of, require_numbers
from common.engine.familiarity import TellFamiliarity
from common.engine.folders import lock_while_running, tell_replaced
from common.engine.progress import StepLine
from common.images.dicom import burned_in, is_dicom
from common.images.nifti import AsSliced
from common.results.evaluation import name_of
from common.results.findings import Finding
from common.results.names import result_names
from common.results.page import write_page
from common.results.remarks import remarks

logger = logging.getLogger(__name__)


class Shown(NamedTuple):
    """How one prediction is shown.

    Attributes:
        entry: for ``predictions.json``.
        pictures: what draws each: file ``NAME_<key>.png``; "mask" is the mask itself.
        findings: for DICOM: findings in the first of ``images``.
        report: for DICOM: the written report.
        images: files; empty: the one that the prediction is named by.
        probabilities: of a mask, (H, W) in [0, 1].
        attention: (V, h, w) on each view, of each of the entry's "words" or "sentences".
    """

    entry: dict
    pictures: Mapping[str, Callable[[], Image.Image]]
    findings: Sequence[Finding] = ()
    report: str | None = None
    images: Sequence[str] = ()
    probabilities: np.ndarray | None = None
    attention: Sequence[np.ndarray] = ()


def with_familiarity(shown: Shown, familiar: Mapping[str, Any]) -> Shown:
    """``shown`` with what :class:`common.engine.familiarity.TellFamiliarity` says, in its findings, too.

    What was fitted to images like the training's, the expected Dice, is not said of one that is unlike them.
    """
    if not familiar:
        return shown
    unlike, share = "warning" in familiar, {"familiarity": familiar["familiarity"]}

    def known(values: Mapping[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in values.items() if not (unlike and key == "expected_dice")}

    findings = [finding._replace(values=known(finding.values) | share, unlike=unlike) for finding in shown.findings]
    return shown._replace(entry={**known(shown.entry), **familiar}, findings=findings)


def is_refused(entry: Mapping[str, Any]) -> bool:
    """Whether ``entry`` holds the warning alone, in place of an answer."""
    return not entry.keys() - {"familiarity", "warning", "image", "study", "burned_in_text"}


def mask_transforms(*, preprocessing: Compose) -> Compose:
    """Logits ``pred`` (1, size, size) to a binary mask of the image's own size, which :class:`PredictionFiles` writes.

    Its probabilities become ``prob_map``.

    Args:
        preprocessing: of ``image``, which is inverted.
    """
    return Compose(
        [
            Activationsd(keys="pred", sigmoid=True),
            Invertd(
                keys="pred", transform=preprocessing, orig_keys="image", nearest_interp=False, to_tensor=True
            ),
            CopyItemsd(keys="pred", names="prob_map"),
            AsDiscreted(keys="pred", threshold=0.5, dtype=torch.uint8),
            AsSliced(keys=["pred", "prob_map"]),
        ]
    )  # fmt: skip


def probability_picture(probabilities: np.ndarray) -> Image.Image:
    """``probabilities`` (H, W) in [0, 1] as a grey picture, 255 for 1."""
    return Image.fromarray((probabilities * 255).round().astype(np.uint8))


def mask_picture(mask: np.ndarray) -> Image.Image:
    """Boolean ``mask`` (H, W) as a picture of 0 and 255."""
    return Image.fromarray(np.uint8(255) * mask.astype(np.uint8))


class PredictionFiles:
    """Handler: write each prediction's pictures as it comes, the summary as inference ends.

    Args:
        output_dir: for ``NAME_<key>.png``, ``predictions.json`` and ``index.html``;
            :func:`common.results.names.result_names` makes the names.
        show: from the image's file name, an item of the engine's output and one of its batch to what is shown.
        title, note: of the page.
        key: what a prediction is of: "image", named by its file, or an entry of the batch that is a name.
        dicom: write DICOM objects, too; every image must be DICOM.
        familiarity: tells how like each image is to the training's; None: nothing is told.
    """

    def __init__(
        self,
        *,
        output_dir: str,
        show: Callable[[str, dict, dict], Shown],
        title: str,
        note: str,
        key: str = "image",
        dicom: bool = False,
        familiarity: TellFamiliarity | None = None,
    ) -> None:
        self.familiarity = familiarity
        self.folder, self.show, self.title, self.note = Path(output_dir), show, title, note
        self.key, self.dicom, self.files = key, dicom, True
        self.predictions: list[dict] = []
        self.shown: list[Shown] = []
        self.names: list[str] = []

    def attach(self, engine: Engine, *, files: bool = True) -> None:
        """Without ``files`` nothing is written: ``predictions`` holds the entries, ``shown`` what they were made of."""
        self.files = files
        if self.familiarity is not None:
            self.familiarity.attach(engine)
        if files:
            StepLine(what="inference").attach(engine)
        engine.add_event_handler(Events.STARTED, self._begin)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        if files:
            lock_while_running(engine, self.folder)
            engine.add_event_handler(Events.COMPLETED, self._finish)

    def _begin(self, engine: Engine) -> None:
        self.predictions, self.shown = [], []
        dataset = engine.data_loader.dataset  # type: ignore[attr-defined]
        cases = getattr(dataset, "data", dataset)
        images = [str(name) for case in cases for name in case.get("images", [case.get("image")])]
        are_files = self.key == "image"
        self.names = result_names([name_of(case[self.key]) for case in cases], are_files=are_files)
        if self.files:
            self.check(images)
            tell_replaced(self.folder / "predictions.json")

    def check(self, images: Sequence[str]) -> None:
        """Refuse a folder that holds the images, and images that no DICOM object can refer to.

        Raises:
            ValueError: which of the two, and what to do.
        """
        here = self.folder.resolve()
        for image in images:
            if Path(image).resolve().parent == here:
                raise ValueError(
                    f"output_dir: {str(self.folder)!r} holds the images, such as {image!r}, and maybe masks, whose "
                    "place results might take; pass another folder"
                )
        if self.dicom:
            import_package("highdicom", package="highdicom", extra="dicom")
        for image in images if self.dicom else ():
            if not is_dicom(image):
                raise ValueError(
                    f"dicom_results: {image!r} is no DICOM file that an object could refer to; leave it off"
                )

    def _collect(self, engine: Engine) -> None:
        if self.files:
            self.folder.mkdir(parents=True, exist_ok=True)
        batch: Any = engine.state.batch
        output: Any = engine.state.output
        told: list[dict] = [{} for _ in batch] if self.familiarity is None else self.familiarity.of_batch(batch)
        for item, data, familiar in zip(output, batch, told, strict=True):
            name = name_of(data[self.key])
            try:
                self.predictions.append(self._entry(name, self._result_name(), item, data, familiar))
            except Exception as error:  # whatever a header or a full folder does, the other cases are done
                if not self.files:
                    raise
                self.predictions.append({})  # keeps its place in the order
                failed = f"{name!r}: its results could not be written ({line_of(error)})"
                FAILURES.add(name, f"{self.key}: {error if isinstance(error, NoNumberError) else failed}")

    def _result_name(self) -> str:
        """Name of the files of the next case, of which this process has every n-th."""
        index = idist.get_rank() + idist.get_world_size() * len(self.predictions)
        return self.names[min(index, len(self.names) - 1)]  # a process without a case has the last

    def _entry(self, name: str, stem: str, item: Any, data: Any, familiar: dict[str, Any]) -> dict[str, Any]:
        """What is told of one case; its files are written."""
        refused = "warning" in familiar and self.familiarity is not None and self.familiarity.refuse
        if not refused:
            require_numbers(name, item)
        shown = Shown(familiar, {}) if refused else with_familiarity(self.show(name, item, data), familiar)
        if not self.files:
            self.shown.append(shown)
            return {self.key: name, **shown.entry, **text_in_pixels(shown.images or [name])}
        return self.write(name, stem, shown)

    def write(self, name: str, stem: str, shown: Shown) -> dict[str, Any]:
        """Write what ``shown`` of the case ``name`` holds to files that begin with ``stem``; return its entry."""
        files = {key: f"{stem}_{key}.png" for key in shown.pictures}
        for key, draw in shown.pictures.items():
            write_picture(self.folder / files[key], draw())
        images = shown.images or [name]
        objects = self._dicom_of(shown, images, stem) if self.dicom and not is_refused(shown.entry) else {}
        return {self.key: name, **files, **shown.entry, **text_in_pixels(images), **objects}

    def _dicom_of(self, shown: Shown, images: Sequence[str], stem: str) -> dict[str, str]:
        """Objects of one prediction; none, named as the run ends, where a header lets none be made."""
        try:
            return self._write_dicom(shown, images, stem)
        except Exception as error:  # whatever highdicom and pydicom make of a header, the other files are done
            told = line_of(error) if str(error).startswith("dicom_results: ") else type(error).__name__
            FAILURES.add(images[0], f"dicom_results: {images[0]!r}: no object could be made of its header ({told})")
            return {}

    def _write_dicom(self, shown: Shown, images: Sequence[str], stem: str) -> dict[str, str]:
        from common.results.dicom import DicomResults

        results = DicomResults(folder=self.folder, network=self.title.partition(":")[0])
        report = "\n".join([shown.report or "", *remarks(shown.entry)])
        written = {} if shown.report is None else results.write_report(report, images, stem)
        if shown.findings or shown.report is None:
            written |= results.write_findings(images[0], shown.findings, stem)
        return written

    def _finish(self, engine: Engine) -> None:
        order, predictions = data_order(len(self.predictions)), gather(self.predictions)
        count = len(engine.data_loader.dataset)  # type: ignore[attr-defined]
        told = [predictions[index] for index in order[:count]]  # the rest are repeated
        self.predictions = [entry for entry in told if entry]
        if is_first():
            self.write_summary()
            logger.info("%d done; all results: %s", len(self.predictions), self.folder / "index.html")
        FAILURES.finish(self.folder)

    def write_summary(self) -> None:
        """Write ``predictions.json`` and the page of ``predictions``."""
        write_json(self.folder / "predictions.json", self.predictions, indent=2)
        write_page(self.folder, title=self.title, note=self.note)


def text_in_pixels(images: Sequence[str]) -> dict[str, bool | None]:
    """``burned_in_text``, whether DICOM ``images`` say so; None: they do not say. Logged unless all deny it.

    Text and calipers stay in the pixels.
    """
    said = [burned_in(image) for image in images if is_dicom(image)]
    if not said:
        return {}
    answer = True if True in said else None if None in said else False
    if answer is not False:
        logger.warning(
            "%s: text or calipers may be burned into the pixels (BurnedInAnnotation: %s); they are left as they are",
            images[0],
            "YES" if answer else "not said",
        )
    return {"burned_in_text": answer}
