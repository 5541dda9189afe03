"""A trained bundle that answers one image after another: its own inference, kept in memory."""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from pathlib import Path

from monai.bundle import ConfigParser
from PIL import Image

from common.cli.code import check_code
from common.cli.model_file import FITTED
from common.predict import Model, load
from common.results.typed import Result

TEXTS = ("report", "phrase")  # ids of inference.json that a text beside the image goes to
FILES = ("image", "images", "study")  # names of files are the server's own


class ServedBundle:
    """The bundle in ``folder``, unpacked or as source. Its weights are loaded at the first image, and again when they
    have changed; one image is seen at a time.

    Raises:
        FileNotFoundError: no metadata.json or inference.json.
        CodeConflict: its code is of another version than what is loaded.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.name = folder.resolve(), folder.name
        check_code(self.folder)
        self.metadata = json.loads((folder / "configs" / "metadata.json").read_text(encoding="utf-8"))
        self.config = ConfigParser.load_config_file(folder / "configs" / "inference.json")
        self.text = next((name for name in TEXTS if name in self.config), None)
        self.lock = threading.Lock()
        self.loaded: tuple[dict[str, float], Model] | None = None

    @property
    def weights(self) -> Path:
        """File of the network's weights, there once it was trained."""
        return self.folder / "models" / "model.pt"

    @property
    def kind(self) -> str:
        """ "segmentation", "classification" or "report", after the output that the metadata name."""
        pred = self.metadata["network_data_format"]["outputs"]["pred"]
        if pred["type"] == "image":
            return "segmentation"
        return "classification" if pred["format"] == "classes" else "report"

    @property
    def labels(self) -> dict[str, int]:
        """Name and value of each class of the output; a mask's background has no name; none of reports."""
        if self.kind == "report":
            return {}
        channels = self.metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
        return {name.lower(): int(value) for value, name in channels.items() if name.lower() != "background"}

    def __call__(self, image: str, text: str | None = None) -> tuple[dict, Image.Image | None]:
        """See ``image``, a file or a folder of views: an entry of ``predictions.json`` without names of files, and the
        mask, 0 or 255, in the image's size.

        Raises:
            ValueError, FileNotFoundError: the image cannot be read.
        """
        answer = self.ask(image, {} if self.text is None else {self.text: text}).answer
        draw = answer.shown.pictures.get("mask")
        return public(answer.entry), None if draw is None else draw()

    def ask(self, image: str, beside: Mapping[str, str | None], *, frame: int = 1) -> Result:
        """What :mod:`common.predict` says of ``image``, of a clip of its ``frame``, with what is given ``beside`` it.

        Raises:
            ValueError, FileNotFoundError: the image cannot be read, or has no such frame.
        """
        with self.lock:
            files = (self.weights, *(self.weights.with_name(name) for name in FITTED))
            changed = {file.name: file.stat().st_mtime for file in files if file.is_file()}
            if self.loaded is None or self.loaded[0] != changed:
                self.loaded = (changed, load(self.folder, batch_size=1))
            model = self.loaded[1]
            case = model.inference.read_one(image, index=frame - 1, **beside)
            self.loaded = None  # an engine that failed does not go on
            (result,) = model.of_cases([case])
            self.loaded = (changed, model)
            return result


def public(entry: dict) -> dict:
    """``entry`` without names of files."""
    return {key: value for key, value in entry.items() if key not in FILES}
