"""A bundle's own inference, kept in memory: it answers one case after another, without files."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pydoc import locate
from typing import Any, NamedTuple

import ignite.engine
from monai.bundle import ConfigParser
from monai.transforms import Compose

from common.cli.model_file import adopt, adopt_detector
from common.cli.trained import Trained
from common.cli.typed_text import literal
from common.engine.failures import FAILURES, line_of
from common.results.predictions import PredictionFiles, Shown, name_of

BESIDE = ("report", "phrase", "mask")  # ids of inference.json for what is given beside the image


class Answer(NamedTuple):
    """What a bundle says of one case: its entry of ``predictions.json``, and what that is made of."""

    entry: dict[str, Any]
    shown: Shown


class Inference:
    """The objects of a bundle's ``configs/inference.json``, built once, with its trained weights.

    Args:
        trained: where these lie.
        device: "cpu", "cuda", "cuda:1"; None: the config's own choice.
        batch_size: cases that the network sees at once.
        overrides: values of ``inference.json`` by their ids.

    Attributes:
        reads: what it takes beside an image: some of :data:`BESIDE`.

    Raises:
        FileNotFoundError: no such config, or no weights.
        ValueError: the weights are not those that their ``model.json`` was written with.
    """

    def __init__(
        self,
        trained: Trained,
        *,
        device: str | None = None,
        batch_size: int = 1,
        overrides: Mapping[str, Any] | None = None,
    ) -> None:
        folder = trained.folder
        if str(folder) not in sys.path:
            sys.path.append(str(folder))
        parser = ConfigParser(ConfigParser.load_config_file(folder / "configs" / "inference.json"))
        for id, value in (overrides or {}).items():
            parser[id] = value
        self.reads = tuple(id for id in BESIDE if id in parser)
        self.list_cases = self._reader(parser)
        self.batch_size = batch_size
        weights = trained.models / "model.pt"
        parser.update(
            {
                "bundle_root": literal(str(folder)),
                "ckpt_dir": literal(str(trained.models)),
                "image": "given with each case",
                "dataset#data": [{}] * batch_size,
                "dataloader#batch_size": batch_size,
                "evaluator#val_handlers": [],
                **({} if device is None else {"device": device}),
            }
        )
        adopt(parser, overrides or {}, weights=str(weights))
        if "detector_def" in parser:
            adopt_detector(parser, overrides or {}, weights=str(weights.with_name("detector.pt")))
        self.dataset, self.evaluator = (parser.get_parsed_content(key) for key in ("dataset", "evaluator"))
        self.prepare, self.dataset.transform = self.dataset.transform, Compose()  # bad images never reach the engine
        handlers = parser.get_parsed_content("handlers")
        self.predictions = next(handler for handler in handlers if isinstance(handler, PredictionFiles))
        self.predictions.attach(self.evaluator, files=False)
        self.evaluator.interrupt_resume_enabled = False  # a run that failed is not gone on with by the next
        self.lock = threading.Lock()  # the engine sees one batch at a time
        _run_once([handler for handler in handlers if handler is not self.predictions])

    def _reader(self, parser: ConfigParser) -> Callable[..., list[dict]]:
        """The function behind ``dataset#data``, with every argument but the image and what is given beside it."""
        config = dict(parser.get("dataset#data"))
        known = {key: config[key] for key in config.keys() - {"image", "data_dir", *self.reads} if key[0] != "_"}
        values = {key: parser.get(v[1:]) if isinstance(v, str) and v[0] == "@" else v for key, v in known.items()}
        reader: Any = locate(config["_target_"])
        return partial(reader, data_dir=None, **values)

    def read_one(self, image: str, *, index: int = 0, **beside: str | None) -> Any:
        """One case of ``image``, the first unless ``index`` says which: of a clip a frame, of a folder an image.

        Raises:
            ValueError, FileNotFoundError: it cannot be read; there is no such case.
        """
        cases = self.list_cases(image=image, **{id: beside.get(id) for id in self.reads})
        for reason in FAILURES.take().values():
            raise ValueError(reason)
        if not 0 <= index < len(cases):
            raise FileNotFoundError(f"image: no frame {index + 1}; there are {len(cases)}")
        return self._prepared(cases[index])

    def read(self, image: str, **beside: str | None) -> list[Any]:
        """The cases of ``image``, a file or a folder, as the network sees them.

        Args:
            beside: what is given beside it, by the names in ``reads``.

        Raises:
            ValueError, FileNotFoundError: the image, or an image of the folder, cannot be read.
        """
        cases = self.list_cases(image=image, **{id: beside.get(id) for id in self.reads})
        for reason in FAILURES.take().values():
            raise ValueError(reason)
        return [self._prepared(case) for case in cases]

    def _prepared(self, case: Any) -> Any:
        """The case as the network sees it; a fault of its files is raised as it is, without MONAI's words around it."""
        try:
            return self.prepare(case)
        except RuntimeError as error:
            cause: BaseException | None = error
            while isinstance(cause, RuntimeError):
                cause = cause.__cause__
            if isinstance(cause, ValueError | OSError):
                raise cause from error
            raise

    def list_each(self, image: str, **beside: str | None) -> tuple[list[Any], list[str]]:
        """The cases of ``image``, to be prepared one by one, and a line for each image that is no case."""
        try:
            cases = self.list_cases(image=image, **{id: beside.get(id) for id in self.reads})
        except (ValueError, OSError) as error:
            FAILURES.take()
            return [], [line_of(error)]
        return list(cases), list(FAILURES.take().values())

    def name_of(self, case: Any) -> str:
        """Name of a case: its image's file, or its study."""
        return name_of(case[self.predictions.key])

    def prepare_each(self, cases: Sequence[Any], failed: Callable[[str], object]) -> list[tuple[int, Any]]:
        """Number and content of each of ``cases`` that can be read; ``failed`` is called with a line for the others."""
        prepared = []
        for number, case in enumerate(cases):
            try:
                prepared.append((number, self.prepare(case)))
            except Exception as error:  # whatever MONAI's transforms make of an image, the other cases are done
                failed(line_of(error.__cause__ or error))
        return prepared

    def __call__(self, cases: Sequence[Any]) -> list[Answer]:
        """Answer at most ``batch_size`` cases that :meth:`read` gave."""
        with self.lock:
            self.predictions.predictions, self.predictions.shown = [], []
            self.dataset.data = list(cases)
            self.evaluator.run()
            told = zip(self.predictions.predictions, self.predictions.shown, strict=True)
            return [Answer(*answer) for answer in told]


def _run_once(handlers: Sequence[Any]) -> None:
    """Let the handlers that load and lay out the weights do so."""
    starter = ignite.engine.Engine(lambda engine, batch: None)
    for handler in handlers:
        handler.attach(starter)
    starter.run([0], max_epochs=1)
