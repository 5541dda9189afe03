"""One bundle behind ``POST /infer/NAME``."""

from __future__ import annotations

import logging
import tempfile
import time
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
from monailabel.interfaces.exception import MONAILabelError, MONAILabelException
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType
from monailabel.transform.writer import write_itk
from PIL import Image

from common.images.files import WITH_DICOM, image_files
from common.images.nifti import is_nifti

from .pictures import check_size, reason_of
from .served_bundle import ServedBundle

logger = logging.getLogger(__name__)
TYPES = {"segmentation": InferType.SEGMENTATION, "classification": InferType.CLASSIFICATION, "report": InferType.OTHERS}


class ServeBundle(InferTask):
    """Answers of ``bundle``: a mask, class probabilities, or a report with its boxes, as JSON.

    A text that the network reads goes into the request's ``params``: ``{"report": "..."}`` or ``{"phrase": "..."}``.
    """

    def __init__(self, bundle: ServedBundle) -> None:
        description = str(bundle.metadata["description"])
        options = {"result_extension": None} if bundle.kind == "segmentation" else {}
        texts = {} if bundle.text is None else {bundle.text: ""}
        super().__init__(
            type=TYPES[bundle.kind],
            labels=bundle.labels,
            dimension=2,
            description=description,
            config={**options, **texts},
        )
        self.bundle = bundle

    def info(self) -> dict[str, Any]:
        return super().info() | {"version": self.bundle.metadata["version"], "reads": self.bundle.text}

    def is_valid(self) -> bool:
        return self.bundle.weights.is_file()

    def __call__(self, request: dict[str, Any]) -> tuple[str | None, dict[str, Any]]:
        """File of the mask, None without one, and the answer as JSON.

        Raises:
            MONAILabelException: the image cannot be read, or a report is missing.
        """
        start = time.perf_counter()
        image = str(request["image"])
        text = self._text(request)
        picture = picture_of(image)
        try:
            check_size(picture)
            entry, mask = self.bundle(picture, text)
        except Exception as error:
            raise bad_input(error, image) from error
        result: dict[str, Any] = {**entry, "label_names": self.labels, "centroids": {}}
        if self.bundle.kind == "classification" and "prob" in entry:  # which a refused image has not
            result["prediction"] = class_scores(self.labels, float(entry["prob"]))
        file = None if mask is None else write_mask(mask, image, request.get("result_extension"))
        result["latencies"] = {"total": round(time.perf_counter() - start, 3)}
        return file, result

    def _text(self, request: dict[str, Any]) -> str | None:
        if self.bundle.text is None:
            return None
        text = request.get(self.bundle.text)
        if self.bundle.text == "report" and text is None:
            raise MONAILabelException(
                MONAILabelError.INVALID_INPUT,
                f'{self.bundle.name}: params lack \'report\'; pass params={{"report": "..."}}; an empty one segments '
                "the image alone",
            )
        if text is not None and not isinstance(text, str):
            raise MONAILabelException(MONAILabelError.INVALID_INPUT, f"{self.bundle.text}: {text!r} is no text")
        if text and text.endswith(".txt"):  # inference.json would read the server's file
            raise MONAILabelException(MONAILabelError.INVALID_INPUT, f"{self.bundle.text}: pass the text, not a file")
        return text


def picture_of(image: str) -> str:
    """The file to look at: of a DICOMweb store's series the DICOM files, which lie beside their copy in NIfTI.

    The copy knows neither an ultrasound region's calibration nor the display's window.
    """
    series = Path(image.removesuffix(".gz").removesuffix(".nii"))
    if is_nifti(image) and series.is_dir():
        files = image_files(series, WITH_DICOM)
        return str(files[0]) if len(files) == 1 else str(series)
    return image


def write_mask(mask: Image.Image, image: str, extension: str | None) -> str:
    """The mask with value 1 for the nodule, in the form of ``image``: PNG, or aligned with NIfTI; or as asked.

    Raises:
        MONAILabelException: ``extension`` is no format for masks.
    """
    pixels = (np.asarray(mask) > 0).astype(np.uint8)  # (H, W)
    suffix = extension or (".nii.gz" if is_nifti(image) else ".png")
    if suffix not in (".png", ".nii", ".nii.gz", ".nrrd"):
        raise MONAILabelException(MONAILabelError.INVALID_INPUT, f"result_extension: {suffix!r} is none of .png, .nii, "
                                  ".nii.gz, .nrrd")  # fmt: skip
    with tempfile.NamedTemporaryFile(suffix=suffix, delete=False) as target:
        if suffix == ".png":
            Image.fromarray(pixels).save(target.name)
            return target.name
    affine, shape = np.eye(4), (*pixels.shape[::-1], 1)
    if is_nifti(image):
        source = nibabel.load(image)
        affine, shape = source.affine, (*source.shape[:2], 1)  # type: ignore[attr-defined]
    write_itk(pixels.T.reshape(shape), target.name, affine=affine, dtype=np.uint8, compress=suffix == ".nii.gz")
    return target.name


def class_scores(labels: dict[str, int], malignant: float) -> list[dict[str, Any]]:
    """MONAI Label's form of class probabilities."""
    scores = {"benign": 1 - malignant, "malignant": malignant}
    return [{"idx": value, "label": name, "score": round(scores[name], 4)} for name, value in labels.items()]


def bad_input(error: BaseException, image: str) -> BaseException:
    """One line for an image that cannot be read, without the server's path; another error as it is."""
    reason = reason_of(error)
    if reason is None:
        return error
    logger.warning("refused an image: %s", type(reason).__name__)
    message = str(reason).splitlines()[0].replace(f"{Path(image).parent}/", "")
    return MONAILabelException(MONAILabelError.INVALID_INPUT, message)
