"""What inference writes: ``predictions.json``, a picture for each image, and one page."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.utils import ImageMetaKey
from PIL import Image, ImageDraw

from common import visualize

from .network import HFCN, side


class WritePredictions:
    """Handler: write each prediction as it comes and the summary as inference ends.

    Args:
        output_dir: for ``NAME_overlay.png``, ``predictions.json`` and ``index.html``.
        pages: images on the page at most; the files hold all.
    """

    def __init__(self, *, network: HFCN, output_dir: str, pages: int = 24) -> None:
        self.network, self.folder, self.pages = network, Path(output_dir), pages
        self.predictions: list[dict] = []
        self.sections: list[str] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def _collect(self, engine: Engine) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        for item, data in zip(engine.state.output, engine.state.batch, strict=True):  # type: ignore[call-overload]
            name = str(data["image"].meta[ImageMetaKey.FILENAME_OR_OBJ])
            picture = draw(np.asarray(data["image"][0]), item, self.network.ratio)
            prediction = self._describe(name, item)
            picture.save(self.folder / prediction["overlay"])
            self.predictions.append(prediction)
            if len(self.sections) < self.pages:
                verdict = f"{prediction['class']}, probability of malignant {prediction['prob']:.2f}"
                self.sections.append(visualize.section_html(Path(name).name, visualize.image_html(picture, verdict)))

    def _describe(self, name: str, item: dict) -> dict:
        threshold = float(self.network.threshold)  # type: ignore[arg-type]
        values = {key: round(float(item[key]), 4) for key in ("prob", "prob_global", "prob_crops")}
        return {
            "image": name,
            "overlay": f"{Path(name).stem}_overlay.png",
            "class": "malignant" if float(item["prob"]) >= threshold else "benign",
            "threshold": round(threshold, 4),
            **values,
            "crop_probs": [round(value, 4) for value in item["crop_probs"].tolist()],
        }

    def _finish(self, _: Engine) -> None:
        text = json.dumps(self.predictions, indent=2, ensure_ascii=False)
        (self.folder / "predictions.json").write_text(text, encoding="utf-8")
        about = "Left: what speaks for malignant on the whole map. Right: the crops and their probability of malignant."
        note = f"<p><small>{len(self.predictions)} images. {about}</small></p>"
        page = visualize.page_html("HFCN: benign or malignant", note, *self.sections)
        (self.folder / "index.html").write_text(page, encoding="utf-8")


def draw(image: np.ndarray, item: dict, ratio: float, *, height: int = 384) -> Image.Image:
    """``image`` (H, W) in [0, 1] with the activation that speaks for malignant, and with the crops' windows."""
    grey = (np.clip(image, 0, 1) * 255).astype(np.uint8)
    activation: torch.Tensor = item["activation"].clamp(min=0).cpu()
    left = visualize.attention_map(grey, activation.numpy(), title="activation: malignant", height=height)
    width = round(grey.shape[1] * height / grey.shape[0])
    right = Image.fromarray(grey).convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(right)
    places = 2 * torch.tensor(activation.shape)  # the trunk's map has twice the activation's side
    extent = [side(int(length), ratio) for length in places]
    for index, (window, prob) in enumerate(zip(item["windows"].tolist(), item["crop_probs"].tolist(), strict=True)):
        down, across = (window[axis] / int(places[axis]) for axis in range(2))
        box = [across * width, down * height, across * width + extent[1] / int(places[1]) * width - 1,
               down * height + extent[0] / int(places[0]) * height - 1]  # fmt: skip
        pen.rectangle(box, outline=COLOURS[index % len(COLOURS)], width=2)
        label = (box[0] + 6 + 60 * (index % 3), box[1] + 4 + 18 * (index // 3))
        pen.text(label, f"{prob:.2f}", fill=COLOURS[index % len(COLOURS)])
    return visualize.side_by_side([left, right])


COLOURS = ((255, 176, 0), (0, 200, 255), (120, 220, 80), (255, 110, 110), (200, 140, 255))
