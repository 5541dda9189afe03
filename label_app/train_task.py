"""Training of a segmenter on the images that were labelled in the server's studies."""

from __future__ import annotations

import logging
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import monai.bundle
import torch
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.exception import MONAILabelError, MONAILabelException
from monailabel.tasks.train.bundle import BundleTrainTask

from common.cli.model_file import trained_with
from common.cli.typed_text import literal
from common.datasets.listed import write_listed
from common.images.dicom import is_dicom, read_header
from common.images.files import WITH_DICOM, image_files

from .request_settings import device_of, fault_of

logger = logging.getLogger(__name__)
TEXTS = ("report", "phrase")


class TrainBundle(BundleTrainTask):
    """Go on from the bundle's weights with the labelled images and their texts.

    An image's ``report``, ``phrase`` or ``patient_id`` is what ``PUT /datastore/image/info`` gave it; a DICOM file
    tells its patient itself. Nothing of a request or of the studies becomes a value of the config: numbers are checked,
    cases go into a file that a reader reads.
    """

    def __init__(self, folder: Path, conf: dict[str, str]) -> None:
        super().__init__(str(folder), conf)
        self.batch_size = int(self.bundle_config.get("batch_size"))

    def config(self) -> dict[str, Any]:
        """Settings that ``POST /train`` takes, with their defaults."""
        devices = [f"cuda:{index}" for index in range(torch.cuda.device_count())] or ["cpu"]
        return {"device": devices, "pretrained": True, "max_epochs": 50, "val_split": 0.2}

    def __call__(self, request: dict[str, Any], datastore: Datastore) -> dict[str, Any]:
        """Train on the labelled images of ``datastore``.

        Raises:
            MONAILabelException: a setting of no such type or range; fewer than two labelled images.
        """
        settings = {key: value for key, value in request.items() if key in SETTINGS}
        fault = fault_of(settings)
        if fault is not None:
            raise MONAILabelException(MONAILabelError.INVALID_INPUT, fault)
        cases = self._fetch_datalist(request, datastore)
        training, held_out = divided(cases, float(settings.get("val_split", 0.2)))
        if not held_out:
            logger.warning(
                "no image is held out: the best epoch, and what images are like, are told by the training's; pass "
                "val_split above 0, and images of several patients (patient_id of PUT /datastore/image/info)"
            )
            held_out = training
        with tempfile.TemporaryDirectory(prefix="training-") as folder:
            write_listed(f"{folder}/cases.json", {"train": training, "validation": held_out})
            monai.bundle.run(
                config_file=self.bundle_config_path,
                meta_file=self.bundle_metadata_path,
                **self.overrides(settings, f"{folder}/cases.json", len(training)),
            )
        return {}

    def overrides(self, settings: Mapping[str, Any], file: str, training: int) -> dict[str, Any]:
        """Values for the config: checked ``settings``, paths as literals, and a reader of ``file``."""
        epochs = settings.get("max_epochs", 50)
        reader = {"_target_": "common.datasets.listed.read_listed", "_requires_": "@imports", "path": literal(file)}
        weights = Path(self.bundle_path) / "models" / "model.pt"
        go_on = settings.get("pretrained", True) and weights.is_file()
        return {
            "bundle_root": literal(self.bundle_path),
            "device": f"$torch.device('{device_of(settings, torch.cuda.is_available())}')",
            "epochs": epochs,
            "train#trainer#max_epochs": epochs,
            "batch_size": max(1, min(self.batch_size, training)),
            "train#dataset#data": {**reader, "split": "train"},
            "validate#dataset#data": {**reader, "split": "validation"},
            "pretrained": literal(str(weights.parent)) if go_on else None,
        } | {id: value for id, value in trained_with(weights).items() if id.partition("#")[0] in self.bundle_config}

    def _fetch_datalist(self, request: dict[str, Any], datastore: Datastore) -> list[dict[str, Any]]:
        cases = []
        for case in datastore.datalist():
            name = Path(case["image"]).name
            info = datastore.get_image_info(name.partition(".")[0])
            texts = {key: info[key] for key in TEXTS if isinstance(info.get(key), str)}
            told = {"case": str(info.get("patient_id") or patient_of(case["image"]))}
            cases.append({key: case[key] for key in ("image", "label")} | texts | told)
        if len(cases) < 2:
            raise MONAILabelException(
                MONAILabelError.INVALID_INPUT,
                f"{request.get('model')}: {len(cases)} labelled images; label 2 or more (PUT /datastore/label, tag "
                "final) before training",
            )
        return cases


def divided(cases: list[dict[str, Any]], share: float) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Cases to train on, and about ``share`` of them to choose the best epoch by: whole patients, the last first.

    One patient at least is trained on; none is held out where there is but one, or where ``share`` is 0.
    """
    counts = Counter(case["case"] for case in cases)
    wanted, held_out = round(share * len(cases)), set[str]()
    for patient in reversed(list(counts)[1:]):
        if counts[patient] <= wanted:
            held_out.add(patient)
            wanted -= counts[patient]
    if not held_out and wanted and len(counts) > 1:
        held_out.add(min(counts, key=counts.__getitem__))
    training = [case for case in cases if case["case"] not in held_out]
    return training, [case for case in cases if case["case"] in held_out]


def patient_of(image: str) -> str:
    """The patient of a DICOM file, or of the first one in a series' folder; else the image's own name."""
    path = Path(image)
    file = next(iter(image_files(path, WITH_DICOM)), None) if path.is_dir() else path
    if file is not None and is_dicom(file):
        named = str(read_header(str(file)).get("PatientID", "")).strip()
        return named or path.name
    return path.name


SETTINGS = ("max_epochs", "val_split", "device", "pretrained")
