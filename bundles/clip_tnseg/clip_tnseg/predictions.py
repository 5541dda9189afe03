"""What inference writes besides the masks: ``predictions.json``, an overlay for each image, and one page."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from ignite.engine import Engine, Events
from monai.utils import ImageMetaKey
from PIL import Image

from common import visualize
from common.datasets.files import to_grey


class WritePredictions:
    """Handler: write each prediction as it comes and the summary as inference ends.

    Args:
        output_dir: for ``NAME_overlay.png``, ``predictions.json`` and ``index.html``.
        pages: images on the page at most; the files hold all.
    """

    def __init__(self, *, output_dir: str, pages: int = 24) -> None:
        self.folder, self.pages = Path(output_dir), pages
        self.predictions: list[dict] = []
        self.sections: list[str] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def _collect(self, engine: Engine) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for item, data in zip(engine.state.output, engine.state.batch, strict=True):  # type: ignore[call-overload]
            name = str(data["image"].meta[ImageMetaKey.FILENAME_OR_OBJ])
            mask = np.asarray(item["pred"]).astype(bool).T
            with Image.open(name) as image:
                picture = visualize.overlay(np.asarray(to_grey(image)), mask)
            prediction = {
                "image": name,
                "phrase": data["phrase"],
                "mask": f"{Path(name).stem}_mask.png",
                "overlay": f"{Path(name).stem}_overlay.png",
                "nodule_area_share": float(mask.mean()),
            }
            picture.save(self.folder / prediction["overlay"])
            self.predictions.append(prediction)
            if len(self.sections) < self.pages:
                figure = visualize.image_html(picture, prediction["phrase"])
                self.sections.append(visualize.section_html(Path(name).name, figure))

    def _finish(self, _: Engine) -> None:
        text = json.dumps(self.predictions, indent=2, ensure_ascii=False)
        (self.folder / "predictions.json").write_text(text, encoding="utf-8")
        note = f"<p><small>{len(self.predictions)} images.</small></p>"
        page = visualize.page_html("CLIP-TNseg: thyroid nodules by a phrase", note, *self.sections)
        (self.folder / "index.html").write_text(page, encoding="utf-8")
