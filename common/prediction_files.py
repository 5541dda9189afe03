"""What inference of every bundle writes: ``predictions.json``, pictures of each image, and one page."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ignite.engine import Engine, Events
from PIL import Image

from common import visualize
from common.result_files import name_of


class Shown(NamedTuple):
    """How one prediction is shown.

    Attributes:
        entry: for ``predictions.json``.
        pictures: file ``NAME_<key>.png`` for each; side by side on the page.
        caption: of the pictures on the page.
        text: HTML below them.
    """

    entry: dict
    pictures: dict[str, Image.Image]
    caption: str
    text: str = ""


class PredictionFiles:
    """Handler: write each prediction's pictures as it comes, the summary as inference ends.

    Args:
        output_dir: for ``NAME_<key>.png``, ``predictions.json`` and ``index.html``.
        show: from the image's file name, an item of the engine's output and one of its batch to what is shown.
        title, note: of the page.
        key: what a prediction is of: "image", named by its file, or an entry of the batch that is a name.
        pages: predictions on the page at most; the files hold all.
    """

    def __init__(
        self,
        *,
        output_dir: str,
        show: Callable[[str, dict, dict], Shown],
        title: str,
        note: str,
        key: str = "image",
        pages: int = 24,
    ) -> None:
        self.folder, self.show, self.title, self.note = Path(output_dir), show, title, note
        self.key, self.pages = key, pages
        self.predictions: list[dict] = []
        self.sections: list[str] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def _collect(self, engine: Engine) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for item, data in zip(engine.state.output, engine.state.batch, strict=True):  # type: ignore[call-overload]
            name = name_of(data[self.key])
            shown = self.show(name, item, data)
            stem = Path(name).stem if self.key == "image" else re.sub(r"[^\w.-]", "_", name).lstrip(".")
            files = {key: f"{stem}_{key}.png" for key in shown.pictures}
            for key, picture in shown.pictures.items():
                picture.save(self.folder / files[key])
            self.predictions.append({self.key: name, **files, **shown.entry})
            if len(self.sections) < self.pages:
                pictures = visualize.side_by_side(list(shown.pictures.values()))
                figure = visualize.image_html(pictures, shown.caption)
                self.sections.append(visualize.section_html(Path(name).name, figure, shown.text))

    def _finish(self, _: Engine) -> None:
        text = json.dumps(self.predictions, indent=2, ensure_ascii=False)
        (self.folder / "predictions.json").write_text(text, encoding="utf-8")
        note = f"<p><small>{len(self.predictions)} predictions. {self.note}</small></p>"
        page = visualize.page_html(self.title, note, *self.sections)
        (self.folder / "index.html").write_text(page, encoding="utf-8")
