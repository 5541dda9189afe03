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
        for item, data in zip(engine.state.output, engine.state.batch, strict=True):  # type: ignore[call-overload]
            name = str(data["image"].meta[ImageMetaKey.FILENAME_OR_OBJ])
            with Image.open(name) as image:
                grey = np.asarray(to_grey(image))
            prediction = self._describe(name, data["report"], item)
            pictures = {"overlay": visualize.overlay(grey, np.asarray(item["pred"]).astype(bool).T)}
            if prediction["words"]:
                pictures["attention"] = _attention_of_top_word(grey, prediction["words"], item["attention"])
            for key, picture in pictures.items():
                prediction[key] = f"{Path(name).stem}_{key}.png"
                picture.save(self.folder / prediction[key])
            self.predictions.append(prediction)
            if len(self.sections) < self.pages:
                self.sections.append(_section(prediction, list(pictures.values())))

    def _describe(self, name: str, report: str, item: dict) -> dict:
        """An entry of ``predictions.json``: where the results are, the sentence and the words about this image."""
        spans = encode_report(self.tokenizer, report, self.max_length).spans
        keywords = item["keywords"].float().cpu().tolist()
        words = [
            {"word": report[start:end], "token": i, "start": start, "end": end, "probability": round(probability, 4)}
            for i, ((start, end), probability) in enumerate(zip(spans, keywords, strict=False))
            if end > start
        ]
        limit = 0.5 * max(keywords[: len(spans)], default=1.0)
        return {
            "image": name,
            "mask": f"{Path(name).stem}_mask.png",
            "nodule_area_share": float(np.asarray(item["pred"]).astype(bool).mean()),
            "report": report,
            "sentence": _top_sentence(report, spans, item["sentence_score"]),
            "keywords": [word["word"] for word in words if word["probability"] > limit and _is_term(word)],
            "words": words,
        }

    def _finish(self, _: Engine) -> None:
        (self.folder / "predictions.json").write_text(
            json.dumps(self.predictions, indent=2, ensure_ascii=False), encoding="utf-8"
        )
        shading = "Shading: probability that a word is about this image."
        note = f"<p><small>{len(self.predictions)} images. {shading}</small></p>"
        page = visualize.page_html("AKE-SSFA: thyroid nodules, guided by the report", note, *self.sections)
        (self.folder / "index.html").write_text(page, encoding="utf-8")


def _attention_of_top_word(grey: np.ndarray, words: list[dict], attention: torch.Tensor) -> Image.Image:
    best = max(words, key=lambda word: (_is_term(word), word["probability"]))
    heat = attention[..., best["token"]].cpu().numpy().T
    return visualize.attention_map(grey, heat, title=f'pixels that attend to "{best["word"]}"')


def _is_term(word: dict) -> bool:
    """Letters or digits, no punctuation."""
    return any(character.isalnum() for character in word["word"])


def _section(prediction: dict, pictures: list[Image.Image]) -> str:
    if prediction["words"]:
        spans = [(word["start"], word["end"]) for word in prediction["words"]]
        report = visualize.report_html(
            prediction["report"], spans, [word["probability"] for word in prediction["words"]]
        )
    else:
        report = "<p><small>No report: segmented from the image alone.</small></p>"
    figure = visualize.image_html(visualize.side_by_side(pictures), "prediction; attention of the top keyword")
    return visualize.section_html(Path(prediction["image"]).name, figure, report)


def _top_sentence(report: str, spans: list[tuple[int, int]], scores: torch.Tensor) -> str | None:
    """The sentence whose words have the highest mean probability."""
    if not spans:
        return None
    place = spans[int(scores[: len(spans)].argmax())][0]
    return next(report[a:b].strip() for a, b in split_sentences(report) if a <= place < b)
