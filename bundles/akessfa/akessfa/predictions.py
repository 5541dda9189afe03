"""What inference writes besides the masks: reports with the words that matter, and the pixels that attend to them."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from PIL import Image

from common.engine.familiarity import TellFamiliarity
from common.images.files import open_image, to_grey
from common.images.masks import truth_in, truth_named
from common.images.nifti import rows_first, rows_first_mask
from common.results import drawing
from common.results.expected_dice import certainty, read_expected_dice
from common.results.findings import Finding, measured
from common.results.predictions import PredictionFiles, Shown, mask_picture, probability_picture
from common.text.encoding import encode_report, split_sentences
from common.text.tokenizer import SentenceTokenizer

from .report_fit import DOUBT, ReportFit, read_report_fit


def prediction_files(
    *,
    output_dir: str,
    tokenizer: SentenceTokenizer,
    max_length: int = 128,
    dicom: bool = False,
    probabilities: bool = False,
    familiarity: TellFamiliarity | None = None,
    weights: str | None = None,
) -> PredictionFiles:
    """The handler of inference: overlay, attention of the top keyword, and the shaded report for each image.

    Args:
        probabilities: write each pixel's probability, too, as a grey picture.
        weights: file of the network, beside which :mod:`akessfa.report_fit` keeps its limit and
            :mod:`common.results.expected_dice` its line.
    """
    known = None if weights is None else read_report_fit(weights)
    expected = None if weights is None else read_expected_dice(weights)

    def show(name: str, item: dict, data: dict) -> Shown:
        grey, mask = np.asarray(to_grey(open_image(name))), rows_first_mask(item["pred"])
        sizes, prob_map = measured(name, mask), rows_first(item["prob_map"])
        described = describe(data["report"], item, tokenizer, max_length, known)
        doubted = "report_doubt" in described
        certain, values = certainty(mask, prob_map, None if doubted else expected)
        entry = {
            **described,
            **sizes,
            **certain,
            **truth_named(data),
        }
        pictures = {
            "mask": partial(mask_picture, mask),
            "overlay": partial(drawing.overlay, grey, mask, truth_in(data)),
        }
        if entry["words"]:
            pictures["attention"] = partial(_attention_of_top_word, grey, entry["words"], item["attention"])
        if probabilities:
            pictures["probability"] = partial(probability_picture, prob_map)
        attention = [_attention_of(word, item["attention"])[None] for word in entry["words"]]
        finding = Finding(sizes | values, mask=mask, doubted=doubted)
        return Shown(entry, pictures, [finding], probabilities=prob_map, attention=attention)

    title = "AKE-SSFA: thyroid nodules, guided by the report"
    shading = "Shading: probability that a word is about this image."
    return PredictionFiles(
        output_dir=output_dir, show=show, title=title, note=shading, dicom=dicom, familiarity=familiarity
    )


def describe(
    report: str, item: dict, tokenizer: SentenceTokenizer, max_length: int, known: ReportFit | None = None
) -> dict:
    """An entry of ``predictions.json``: the sentence and the words about this image, and whether the report fits."""
    spans = encode_report(tokenizer, report, max_length).spans
    keywords = item["keywords"].float().cpu().tolist()
    words = [
        {"word": report[start:end], "token": i, "start": start, "end": end, "probability": round(probability, 4)}
        for i, ((start, end), probability) in enumerate(zip(spans, keywords, strict=False))
        if end > start
    ]
    fit = float(item["fit"])
    limit = 0.5 * max(keywords[: len(spans)], default=1.0)
    return {
        "nodule_area_share": float(np.asarray(item["pred"]).astype(bool).mean()),
        "report": report,
        "report_fit": round(fit, 2) if words else None,
        **({"report_doubt": DOUBT} if words and known is not None and known.doubts(fit) else {}),
        "sentence": _top_sentence(report, spans, item["sentence_score"]),
        "keywords": [word["word"] for word in words if word["probability"] > limit and _is_term(word)],
        "words": words,
    }


def _attention_of_top_word(grey: np.ndarray, words: list[dict], attention: torch.Tensor) -> Image.Image:
    best = max(words, key=lambda word: (_is_term(word), word["probability"]))
    heat = _attention_of(best, attention)
    return drawing.attention_map(grey, heat, title=f'pixels that attend to "{best["word"]}"')


def _attention_of(word: dict, attention: torch.Tensor) -> np.ndarray:
    """Of the pixels to ``word``, (h, w)."""
    return attention[..., word["token"]].cpu().numpy().T


def _is_term(word: dict) -> bool:
    """Letters or digits, no punctuation."""
    return any(character.isalnum() for character in word["word"])


def _top_sentence(report: str, spans: list[tuple[int, int]], scores: torch.Tensor) -> str | None:
    """The sentence whose words have the highest mean probability."""
    if not spans:
        return None
    position = spans[int(scores[: len(spans)].argmax())][0]
    return next(report[a:b].strip() for a, b in split_sentences(report) if a <= position < b)
