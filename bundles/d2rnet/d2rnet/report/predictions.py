"""What inference writes: the report, the lesions in boxes, and which region each sentence looks at."""

from __future__ import annotations

import json
from functools import partial

import numpy as np
from PIL import Image

from common.datasets.coco import to_xyxy
from common.engine.familiarity import TellFamiliarity
from common.engine.sentence_calibration import mark_doubtful, read_calibration
from common.engine.stated_findings import describe_findings, read_names
from common.images.files import open_image, to_grey
from common.results import drawing
from common.results.findings import Finding, box_size
from common.results.predictions import PredictionFiles, Shown
from common.text.sentences import Sentence, sentences_of, token_entry
from common.text.tokenizer import SentenceTokenizer

from .agreement import mark_disagreements

# A region is wholly red at this many times the share of a sentence's attention that it has where attention is even, or
# at the sentence's largest share, if that is more.
EVEN = 4.0


def prediction_files(
    *,
    output_dir: str,
    tokenizer: SentenceTokenizer,
    regions: int,
    detector: dict | None = None,
    dicom: bool = False,
    familiarity: TellFamiliarity | None = None,
) -> PredictionFiles:
    """The handler of inference.

    Args:
        regions: boxes that the network sees, the top-scoring ones.
        detector: settings of the one that found the boxes, whose ``labels`` the report is held against; None: they are
            the data set's own.
    """

    calibration = None if familiarity is None else read_calibration(familiarity.weights)
    names = [] if familiarity is None else read_names(familiarity.weights)

    def show(_: str, item: dict, data: dict) -> Shown:
        sentences = sentences_of(item, tokenizer)
        boxes = json.loads(data["detections"])
        shares = [item["region_attention"][s.tokens].mean(0).cpu().numpy()[: len(boxes)] for s in sentences]
        images = data["images"].split("\n")
        boxes = [box | box_size(corner, images[0]) for box, corner in zip(boxes, corners(boxes), strict=True)]
        entry = describe(item, sentences, shares, tokenizer) | describe_findings(item, names)
        entry |= {"boxes": boxes, "images": images}
        mark_doubtful(entry, calibration)
        if detector is not None:
            mark_disagreements(entry, detector["labels"])
        entry |= {"reference": data["report"]} if "report" in data else {}
        greys = [np.asarray(to_grey(open_image(name))) for name in images]
        pictures = {
            "lesions": partial(draw_boxes, greys[0], boxes),
            "attention": partial(draw, greys, sentences, boxes[:regions], shares),
        }
        attention = [sentence.attention[: len(images)] for sentence in sentences]
        return Shown(entry, pictures, findings_of(boxes), entry["report"], images, attention=attention)

    note = (
        "Behind each sentence the mean probability of its words and its share of attention to each lesion region. "
        "Research only: read no finding into a report."
    )
    title = "D2R-Net: lesions and generated reports"
    return PredictionFiles(
        output_dir=output_dir, show=show, title=title, note=note, key="study", dicom=dicom, familiarity=familiarity
    )


def findings_of(boxes: list[dict]) -> list[Finding]:
    """The lesions for DICOM."""
    measures = ("score", "width_mm", "height_mm")
    return [
        Finding({key: box[key] for key in measures if key in box}, label=_name(box), box=corner.tolist())
        for box, corner in zip(boxes, corners(boxes), strict=True)
    ]


def describe(item: dict, sentences: list[Sentence], shares: list[np.ndarray], tokenizer: SentenceTokenizer) -> dict:
    """An entry of ``predictions.json``; ``regions`` of a sentence are shares of its attention, in the boxes' order."""
    positions = [position for sentence in sentences for position in sentence.tokens]
    return {
        "study": item["study"],
        "report": item["text"],
        "score": round(float(item["score"]), 4),
        "sentences": [
            {"text": s.text, "probability": round(s.probability, 4), "regions": [round(float(x), 4) for x in share]}
            for s, share in zip(sentences, shares, strict=True)
        ],
        "tokens": [token_entry(tokenizer, int(item["ids"][p]), float(item["log_probs"][p])) for p in positions],
    }


def _name(box: dict) -> str:
    return box["label"] or "lesion"


def corners(boxes: list[dict]) -> np.ndarray:
    """Boxes (M, 4) as x1, y1, x2, y2."""
    boxed = np.array([box["box"] for box in boxes], dtype=float).reshape(-1, 4)
    return to_xyxy(boxed)


def draw_boxes(grey: np.ndarray, boxes: list[dict]) -> Image.Image:
    """The first view with all boxes, numbered."""
    return drawing.draw_boxes(grey, corners(boxes), [f"{_name(box)} {box['score']:.2f}" for box in boxes])


def draw(
    greys: list[np.ndarray],
    sentences: list[Sentence],
    boxes: list[dict],
    shares: list[np.ndarray],
    *,
    height: int = 200,
) -> Image.Image:
    """A row a sentence: each view under the attention to it, and the first view's regions, the redder the more seen.

    Sentences that look everywhere alike are named below instead.
    """
    rows, flat = [], []
    for number, (sentence, share) in enumerate(zip(sentences, shares, strict=True), start=1):
        attention = np.asarray(sentence.attention[: len(greys)])
        even = 1 / (attention.size + len(share))
        heat = drawing.stand_out(attention)
        if heat is None and not (share >= drawing.FLAT * even).any():
            flat.append(number)
            continue
        cells = _views(greys, np.zeros_like(attention) if heat is None else heat, attention, number, height)
        if boxes and len(share):
            title, highest = f"{number}, regions: {share.sum():.0%}", max(float(share.max()), EVEN * even)
            picture = drawing.attention_boxes(
                greys[0], corners(boxes), share, title=title, height=height, highest=highest
            )
            cells.append(picture)
        rows.append(drawing.side_by_side(cells))
    if not rows:
        plain = np.zeros((len(greys), 1, 1))
        rows.append(drawing.side_by_side(_views(greys, plain, plain, 0, height)))
    if flat:
        rows.append(drawing.note(drawing.flat_sentences(flat, len(sentences)), rows[0].width))
    return drawing.stack(rows)


def _views(
    greys: list[np.ndarray], heat: np.ndarray, attention: np.ndarray, number: int, height: int
) -> list[Image.Image]:
    """Each view under ``heat`` (V, h, w) of the sentence ``number``, 0 of none, with its share of the attention."""
    titles = [f"{number}, view {index}: {view.sum():.0%}" for index, view in enumerate(attention, start=1)]
    return [
        drawing.attention_map(grey, view, title=title if number else "", height=height, highest=1.0)
        for grey, view, title in zip(greys, heat, titles, strict=True)
    ]
