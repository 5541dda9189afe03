"""A trained bundle that answers one image after another: its own inference, kept in memory."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import logging
import re
import shutil
import sys
import tempfile
import threading
import weakref
from functools import partial
from pathlib import Path
from pydoc import locate
from typing import Any, NamedTuple

import ignite.engine
from monai.bundle import ConfigParser
from monai.transforms import Compose

from common.cli.model_file import adopt, adopt_detector
from common.cli.typed_text import literal
from common.engine.failures import FAILURES
from common.results.predictions import PredictionFiles

logger = logging.getLogger(__name__)
TEXTS = ("report", "phrase")  # ids of inference.json that a text beside the image goes to


class CodeConflict(ValueError):
    """A bundle brings other code than what this process runs."""


def check_code(folder: Path) -> None:
    """Refuse a packed bundle whose code, or whose copy of ``common``, is not that of this process.

    Python loads a package once: a second version of it would be silently answered by the first.

    Raises:
        CodeConflict: with both versions.
    """
    for name in ("common", folder.name):
        brought, spec = folder / name / "__init__.py", importlib.util.find_spec(name)
        if spec is None or spec.origin is None or not brought.is_file() or brought.samefile(spec.origin):
            continue
        ours = Path(spec.origin).parent
        if fingerprint(ours) != fingerprint(brought.parent):
            raise CodeConflict(
                f"{folder.name}: it brings {name} {version(folder, brought.parent)}, and {name} "
                f"{version(ours.parent, ours)} of {str(ours)!r} is loaded; serve bundles of one version, or each by a "
                "server of its own"
            )


def fingerprint(package: Path) -> str:
    """Digest of a package's code."""
    digest = hashlib.sha256()
    for file in sorted(package.rglob("*.py")):
        digest.update(file.relative_to(package).as_posix().encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()[:12]


def version(root: Path, package: Path) -> str:
    """A package's version, as it states it or as the metadata of the bundle around it do, and its fingerprint."""
    stated = re.search(r"""__version__ = ["'](.+)["']""", (package / "__init__.py").read_text(encoding="utf-8"))
    metadata = root / "configs" / "metadata.json"
    told = json.loads(metadata.read_text(encoding="utf-8"))["version"] if metadata.is_file() else "of unknown version"
    return f"{stated[1] if stated else told} ({fingerprint(package)})"


class Answer(NamedTuple):
    """What a bundle says of an image.

    Attributes:
        entry: of its ``predictions.json``, without names of files.
        mask: a PNG file, 0 or 255, in the image's size; the caller removes its folder.
    """

    entry: dict
    mask: Path | None


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
        self.loaded: tuple[float, Any] | None = None

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

    def __call__(self, image: str, text: str | None = None) -> Answer:
        """See ``image``, a file or a folder of views.

        Raises:
            ValueError, FileNotFoundError: the image cannot be read.
        """
        with self.lock:
            changed = self.weights.stat().st_mtime
            if self.loaded is None or self.loaded[0] != changed:
                self.loaded = (changed, _Inference(self))
            inference = self.loaded[1]
            case = inference.read(image, text)
            self.loaded = None  # an engine that failed does not go on
            answer = inference(case, image)
            self.loaded = (changed, inference)
            return answer


class _Inference:
    """The objects of inference.json, built once."""

    def __init__(self, bundle: ServedBundle) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix=f"{bundle.name}-"))
        weakref.finalize(self, shutil.rmtree, self.folder, ignore_errors=True)
        sys.path.append(str(bundle.folder))
        parser = ConfigParser(json.loads(json.dumps(bundle.config)))
        self.text = bundle.text
        self.list_cases = self._reader(parser)
        for key, value in {
            "bundle_root": literal(str(bundle.folder)),
            "output_dir": literal(str(self.folder)),
            "image": "given with each request",
            "dataset#data": [{}],
            "evaluator#val_handlers": [],
        }.items():
            parser[key] = value
        adopt(parser, {}, weights=bundle.weights)
        if "detector_def" in parser:
            adopt_detector(parser, {}, weights=str(Path(bundle.weights).with_name("detector.pt")))
        self.dataset, self.evaluator = (parser.get_parsed_content(key) for key in ("dataset", "evaluator"))
        self.prepare, self.dataset.transform = self.dataset.transform, Compose()  # bad images never reach the engine
        handlers = parser.get_parsed_content("handlers")
        self.predictions = next(handler for handler in handlers if isinstance(handler, PredictionFiles))
        self.predictions.attach(self.evaluator, files=False)
        self._load([handler for handler in handlers if handler is not self.predictions])

    def _reader(self, parser: ConfigParser) -> Any:
        """The function behind ``dataset#data``, with every argument but the image and its text."""
        config = dict(parser.get("dataset#data"))
        known = {key: config[key] for key in config.keys() - {"image", "data_dir", self.text} if key[0] != "_"}
        values = {key: parser.get(v[1:]) if isinstance(v, str) and v[0] == "@" else v for key, v in known.items()}
        return partial(locate(config["_target_"]), data_dir=None, **values)  # type: ignore[arg-type]

    def _load(self, handlers: list[Any]) -> None:
        """Let the handlers that load and lay out the weights do so, once."""
        starter = ignite.engine.Engine(lambda engine, batch: None)
        for handler in handlers:
            handler.attach(starter)
        starter.run([0], max_epochs=1)

    def read(self, image: str, text: str | None) -> Any:
        """The image and its text as the network sees them.

        Raises:
            ValueError, FileNotFoundError: the image cannot be read.
        """
        cases = self.list_cases(image=image, **({} if self.text is None else {self.text: text}))
        for reason in FAILURES.take().values():
            raise ValueError(reason)
        return self.prepare(cases[0])

    def __call__(self, case: Any, image: str) -> Answer:
        self.dataset.data = [case]
        try:
            self.evaluator.run()
            (entry,) = self.predictions.predictions
            return Answer(_public(entry, image), self._kept(entry.get("mask")))
        finally:
            for file in self.folder.iterdir():
                file.unlink()

    def _kept(self, mask: str | None) -> Path | None:
        """Move the mask out of the folder that is emptied after each image."""
        if mask is None:
            return None
        kept = Path(tempfile.mkdtemp(prefix="mask-")) / "mask.png"
        shutil.move(self.folder / mask, kept)
        return kept


def _public(entry: dict, image: str) -> dict:
    """``entry`` without names of files, which are the server's own."""
    stem = Path(image).stem
    own = ("image", "images", "study", "mask")
    return {key: value for key, value in entry.items() if key not in own and not _names_file(value, stem)}


def _names_file(value: object, stem: str) -> bool:
    return isinstance(value, str) and value.endswith(".png") and stem.partition(".")[0] in value
