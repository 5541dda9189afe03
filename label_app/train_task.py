"""Training of a segmenter on the images that were labelled in the server's studies."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.exception import MONAILabelError, MONAILabelException
from monailabel.tasks.train.bundle import BundleTrainTask

TEXTS = ("report", "phrase")


class TrainBundle(BundleTrainTask):
    """Go on from the bundle's weights with the labelled images and their texts.

    An image's ``report`` or ``phrase`` is what ``PUT /datastore/image/info`` gave it.
    """

    def __init__(self, folder: Path, conf: dict[str, str]) -> None:
        super().__init__(str(folder), conf)
        self.batch_size = int(self.bundle_config.get("batch_size"))

    def _fetch_datalist(self, request: dict[str, Any], datastore: Datastore) -> list[dict[str, Any]]:
        cases = []
        for case in datastore.datalist():
            name = Path(case["image"]).name
            info = datastore.get_image_info(name.partition(".")[0])
            texts = {key: info[key] for key in TEXTS if isinstance(info.get(key), str)}
            cases.append({key: case[key] for key in ("image", "label")} | texts)
        if len(cases) < 2:
            raise MONAILabelException(
                MONAILabelError.INVALID_INPUT,
                f"{request.get('model')}: {len(cases)} labelled images; label 2 or more (PUT /datastore/label, tag "
                "final) before training",
            )
        return cases

    def _update_overrides(self, overrides: dict[str, Any]) -> dict[str, Any]:
        training = len(overrides["train#dataset#data"])
        overrides["batch_size"] = max(1, min(self.batch_size, training))
        overrides["epochs"] = overrides["train#trainer#max_epochs"]
        return overrides
