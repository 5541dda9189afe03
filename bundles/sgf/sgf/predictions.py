"""What inference writes: the report, how sure each word is, the topic, and where each sentence looks."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from common.engine.familiarity import TellFamiliarity
from common.engine.sentence_calibration import mark_doubtful, read_calibration
from common.engine.stated_findings import describe_findings, read_names
from common.images.files import open_image, to_grey
from common.results import drawing
from common.results.predictions import PredictionFiles, Shown
from common.text.sentences import Sentence, sentences_of, token_entry
from common.text.tokenizer import SentenceTokenizer


def prediction_files(
    *,
    output_dir: str,
    tokenizer: SentenceTokenizer,
    labels_dir: str,
    dicom: bool = False,
    familiarity: TellFamiliarity | None = None,
) -> PredictionFiles:
    """The handler of inference."""
    names = [] if familiarity is None else read_names(familiarity.weights)
    file = Path(labels_dir) / "topics.json"
    topics = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    calibration = None if familiarity is None else read_calibration(familiarity.weights)

    def show(_: str, item: dict, data: dict) -> Shown:
        sentences = sentences_of(item, tokenizer)
        images = data["images"].split("\n")
        entry = describe(item, sentences, tokenizer, topics) | describe_findings(item, names) | {"images": images}
        mark_doubtful(entry, calibration)
        entry |= {"reference": data["reference"]} if "reference" in data else {}
        pictures = {"attention": partial(draw, images, sentences)}
        attention = [sentence.attention[: len(images)] for sentence in sentences]
        return Shown(entry, pictures, report=entry["report"], images=images, attention=attention)

    note = "Behind each sentence the mean probability of its words. Research only: read no finding into a report."
    title = "SGF: generated reports"
    return PredictionFiles(
        output_dir=output_dir, show=show, title=title, note=note, key="study", dicom=dicom, familiarity=familiarity
    )


def describe(item: dict, sentences: list[Sentence], tokenizer: SentenceTokenizer, topics: dict[str, list]) -> dict:
    """An entry of ``predictions.json``."""
    probabilities = item["cluster"].softmax(0)
    cluster = int(probabilities.argmax())
    positions = [position for sentence in sentences for position in sentence.tokens]
    return {
        "study": item["study"],
        "report": item["text"],
        "score": round(float(item["score"]), 4),
        "cluster": cluster,
        "cluster_prob": round(float(probabilities[cluster]), 4),
        "topic": topics.get(str(cluster), []),
        "sentences": [
            {"text": s.text, "probability": round(s.probability, 4), "view": 1 + int(s.attention.sum((1, 2)).argmax())}
            for s in sentences
        ],
        "tokens": [token_entry(tokenizer, int(item["ids"][p]), float(item["log_probs"][p])) for p in positions],
    }


def draw(images: list[str], sentences: list[Sentence], *, height: int = 160) -> Image.Image:
    """A row a sentence: each view under the attention to it; red is the strongest of the row, above its mean.

    Sentences with flat attention are named below instead.
    """
    greys = [np.asarray(to_grey(open_image(name))) for name in images]
    rows, flat = [], []
    for number, sentence in enumerate(sentences, start=1):
        share = sentence.attention[: len(greys)]
        heat = drawing.stand_out(np.asarray(share))
        if heat is None:
            flat.append(number)
            continue
        cells = [
            drawing.attention_map(
                grey, view, title=f"sentence {number}, view {index}: {part:.0%}", height=height, highest=1.0
            )
            for index, (grey, view, part) in enumerate(zip(greys, heat, share.sum((1, 2)), strict=True), start=1)
        ]
        rows.append(drawing.side_by_side(cells))
    if not rows:
        plain = [Image.fromarray(grey).convert("RGB").resize(drawing.shown_size(grey, height)) for grey in greys]
        rows.append(drawing.side_by_side(plain))
    if flat:
        rows.append(drawing.note(drawing.flat_sentences(flat, len(sentences)), rows[0].width))
    return drawing.stack(rows)
