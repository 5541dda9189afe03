"""MONAI Label's way into the app: ``MyApp`` finds the bundles and gives each its tasks."""

from __future__ import annotations

import logging
import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))

from monailabel.interfaces.app import MONAILabelApp  # noqa: E402
from monailabel.interfaces.exception import ImageNotFoundException, MONAILabelError, MONAILabelException  # noqa: E402
from monailabel.interfaces.tasks.infer_v2 import InferTask  # noqa: E402
from monailabel.interfaces.tasks.strategy import Strategy  # noqa: E402
from monailabel.interfaces.tasks.train import TrainTask  # noqa: E402
from monailabel.tasks.activelearning.random import Random  # noqa: E402

from common import __version__  # noqa: E402
from common.cli.code import CodeConflict  # noqa: E402
from label_app.infer_task import ServeBundle  # noqa: E402
from label_app.least_certain import LeastCertain  # noqa: E402
from label_app.names import is_name  # noqa: E402
from label_app.served_bundle import ServedBundle  # noqa: E402
from label_app.train_task import TrainBundle  # noqa: E402

logger = logging.getLogger(__name__)


class MyApp(MONAILabelApp):
    """Serves every trained bundle of the folder ``--conf bundles FOLDER``, by default this repository's."""

    def __init__(self, app_dir: str, studies: str, conf: dict[str, str]) -> None:
        folder = Path(conf.get("bundles") or ROOT / "bundles")
        folders = sorted(path.parents[1] for path in folder.glob("*/configs/inference.json"))
        if not folders:
            raise FileNotFoundError(f"bundles: no bundle in {str(folder)!r}; pass --bundles FOLDER with bundles in it")
        self.bundles = list(served(folders))
        for bundle in self.bundles:
            if not bundle.weights.is_file():
                logger.warning("%s: no models/model.pt yet; run its train.json, then it is served", bundle.name)
        super().__init__(
            app_dir=app_dir,
            studies=studies,
            conf=conf,
            name="Ultrasound-text bundles",
            description="Segmentation, classification and reports from images and text",
            version=__version__,
        )

    def init_infers(self) -> dict[str, InferTask]:
        return {bundle.name: ServeBundle(bundle) for bundle in self.bundles}

    def init_trainers(self) -> dict[str, TrainTask]:
        segmenters = [bundle for bundle in self.bundles if bundle.kind == "segmentation"]
        return {bundle.name: TrainBundle(bundle.folder, self.conf) for bundle in segmenters}

    def init_strategies(self) -> dict[str, Strategy]:
        """MONAI Label's random choice, and for each segmenter the image that it is least certain of."""
        segmenters = [bundle for bundle in self.bundles if bundle.kind == "segmentation" and bundle.weights.is_file()]
        return {"random": Random(), **{f"least_certain_{b.name}": LeastCertain(b) for b in segmenters}}

    def infer(self, request: dict[str, Any], datastore: Any = None) -> Any:
        """Answer ``request`` for an image of the studies, or one that was uploaded with it.

        Raises:
            ImageNotFoundException: neither; no other file of the server is read.
        """
        image = request.get("image")
        check_name("label_tag", request.get("label_tag", "original"))
        if not isinstance(image, str):
            raise MONAILabelException(MONAILabelError.INVALID_INPUT, f"image: {image!r} is no name")
        if os.path.exists(image) and not _uploaded(image):
            message = "image: a path is not accepted; pass the id of an image of the studies"
            raise MONAILabelException(MONAILabelError.INVALID_INPUT, message)
        if not image or not (os.path.exists(image) or self._find(image, datastore or self.datastore())):
            raise ImageNotFoundException(f"image: no {image!r} in the studies; GET /datastore/?output=all lists them")
        return super().infer(request, datastore)

    def batch_infer(self, request: dict[str, Any], datastore: Any = None) -> Any:
        """MONAI Label's, whose labels stay in their folder."""
        check_name("label_tag", request.get("label_tag", "original"))
        images = request.get("images")
        known = set((datastore or self.datastore()).list_images()) if isinstance(images, list) else set()
        missing = [] if not isinstance(images, list) else [image for image in images if image not in known]
        if missing:
            raise ImageNotFoundException(f"images: no {missing[0]!r} in the studies")
        try:
            return super().batch_infer(request, datastore)
        except ZeroDivisionError as error:  # MONAI Label's mean over the images that could be done
            message = "images: none of them could be done; ask for one alone to see why"
            raise MONAILabelException(MONAILabelError.INVALID_INPUT, message) from error

    def model_file(self, model: str, validate: bool = True) -> str | None:
        """Weights that ``GET /model/NAME`` sends."""
        files = [str(bundle.weights) for bundle in self.bundles if bundle.name == model]
        return next((file for file in files if not validate or os.path.isfile(file)), None)

    def bundle_path(self, model: str) -> None:
        """None: the processes that train find the bundle by the app, and answers do not tell the server's paths."""

    @staticmethod
    def _find(image: str, datastore: Any) -> str:
        """The file of ``image``; empty where there is none, which a DICOMweb store tells by an error of its own."""
        try:
            return str(datastore.get_image_uri(image))
        except IndexError:
            return ""

    def _download_dcmqi_tools(self) -> None:
        """Nothing: masks become DICOM by highdicom, see :mod:`label_app.application`."""


def served(folders: Iterable[Path]) -> Iterator[ServedBundle]:
    """The bundles in ``folders``; one with code of another version is left out, and the log says so."""
    for folder in folders:
        try:
            yield ServedBundle(folder)
        except CodeConflict as error:
            logger.error("not served: %s", error)


def check_name(what: str, value: object) -> None:
    """Refuse a name that is a path.

    Raises:
        MONAILabelException: it is none that a folder can hold.
    """
    if not is_name(value):
        raise MONAILabelException(
            MONAILabelError.INVALID_INPUT, f"{what}: {value!r} is no name; a path is not accepted"
        )


def _uploaded(path: str) -> bool:
    """Whether ``path`` lies in the server's own folder of temporary files."""
    return Path(path).resolve().is_relative_to(Path(tempfile.gettempdir()).resolve())
