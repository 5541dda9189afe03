"""What inference writes: ``predictions.json``, an overlay for each image, and one page with reports and attention."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.utils import ImageMetaKey
from PIL import Image

from common import visualize
from common.datasets.files import to_grey
from common.report_tokenizer import SentenceTokenizer, encode_report, split_sentences


class WritePredictions:
    """Handler: write each prediction as it comes and the summary as inference ends.

    Args:
        output_dir: for ``NAME_overlay.png``, ``predictions.json`` and ``index.html``.
        pages: images on the page at most; the files hold all.
    """

    def __init__(
        self, *, output_dir: str, tokenizer: SentenceTokenizer, max_length: int = 128, pages: int = 24
    ) -> None:
        self.folder, self.tokenizer, self.max_length, self.pages = Path(output_dir), tokenizer, max_length, pages
        self.predictions: list[dict] = []
        self.sections: list[str] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def _collect(self, engine: Engine) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for item, data in zip(engine.state.output, engine.state.batch, strict=True):
            name = str(data["image"].meta[ImageMetaKey.FILENAME_OR_OBJ])
            prediction = self._describe(name, data["report"], item)
            self.predictions.append(prediction)
            picture = self._overlay(name, item["pred"])
            picture.save(self.folder / prediction["overlay"])
            if len(self.sections) < self.pages:
                self.sections.append(self._section(prediction, picture, data["report"], item))

    def _describe(self, name: str, report: str, item: dict) -> dict:
        mask = np.asarray(item["pred"]).astype(bool)
        keywords = item["keywords"].float().cpu().numpy()
        spans = encode_report(self.tokenizer, report, self.max_length).spans
        sentence = _top_sentence(report, spans, item["sentence_score"])
        limit = 0.5 * keywords.max() if len(spans) else 1.0
        stem = Path(name).stem
        return {
            "image": name,
            "mask": f"{stem}_mask.png",
            "overlay": f"{stem}_overlay.png",
            "nodule_area_share": float(mask.mean()),
            "report": report,
            "report_used": bool(spans),
            "sentence": sentence,
            "keywords": [
                {"word": report[a:b], "probability": round(float(p), 4)}
                for (a, b), p in zip(spans, keywords, strict=False)
                if b > a and p > limit
            ],
        }

    def _overlay(self, name: str, mask: torch.Tensor) -> Image.Image:
        with Image.open(name) as image:
            return visualize.overlay(np.asarray(to_grey(image)), np.asarray(mask).astype(bool).T)

    def _section(self, prediction: dict, picture: Image.Image, report: str, item: dict) -> str:
        spans = encode_report(self.tokenizer, report, self.max_length).spans
        pictures = [picture]
        if spans:
            keywords = item["keywords"].float().cpu().numpy()[: len(spans)]
            best = int(keywords.argmax())
            with Image.open(prediction["image"]) as image:
                grey = np.asarray(to_grey(image))
            attention = item["attention"][..., best].cpu().numpy().T
            word = report[spans[best][0] : spans[best][1]]
            pictures.append(visualize.attention_map(grey, attention, title=f'pixels that attend to "{word}"'))
            shaded = visualize.report_html(report, spans, keywords)
        else:
            shaded = "<p><small>No report: segmented from the image alone.</small></p>"
        figure = visualize.image_html(visualize.side_by_side(pictures), "prediction; attention of the top keyword")
        return visualize.section_html(Path(prediction["image"]).name, figure, shaded)

    def _finish(self, _: Engine) -> None:
        (self.folder / "predictions.json").write_text(
            json.dumps(self.predictions, indent=2, ensure_ascii=False), encoding="utf-8"
        )
        note = f"<p><small>{len(self.predictions)} images. Shading: probability that a word is about this image.</small></p>"
        page = visualize.page_html("AKE-SSFA: thyroid nodules, guided by the report", note, *self.sections)
        (self.folder / "index.html").write_text(page, encoding="utf-8")


def _top_sentence(report: str, spans: list[tuple[int, int]], scores: torch.Tensor) -> str | None:
    """The sentence whose words have the highest mean probability."""
    if not spans:
        return None
    place = spans[int(scores[: len(spans)].argmax())][0]
    return next(report[a:b].strip() for a, b in split_sentences(report) if a <= place < b)
