"""What happens to a case on its way into the network, alike in training, evaluation and inference."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import torch
from monai.transforms import (
    Compose,
    EnsureTyped,
    SelectItemsd,
    Transform,
)

from common.cli.given import text_or_file
from common.datasets.layouts import list_each, read_dataset, truth_of
from common.text.encoding import encode_report
from common.text.tokenizer import SentenceTokenizer
from common.transforms.augment import RandMirrorReportd, move_slightly, vary_ultrasound
from common.transforms.load import check_size, load_grey
from common.transforms.reports import TokenizeReportd

TOKENS = ("input_ids", "attention_mask", "sentence_ids")
TRUTH = ("about_image", "about_nodule", "attribute")


def training_transforms(*, tokenizer: SentenceTokenizer, size: int, max_length: int, affine: float = 0.0) -> Compose:
    """Load, then vary at random what the report does not speak of: the scanner's looks, and side with its words.

    Args:
        affine: share of :func:`common.transforms.augment.move_slightly`, for data sets of some hundred images.
    """
    check_size(size)
    keys = ["image", "label"]
    return Compose(
        [
            *load_grey(size=size, label=True),
            EnsureTyped(keys=keys, track_meta=False),  # random transforms on plain tensors cost a fraction
            RandMirrorReportd(keys=keys),
            *move_slightly(keys, size=size, share=affine),
            *vary_ultrasound(),
            TokenizeReportd(tokenizer, max_length=max_length),
            SelectItemsd(keys=[*keys, *TOKENS]),
        ]
    )  # fmt: skip


def validation_transforms(*, tokenizer: SentenceTokenizer, size: int, max_length: int) -> Compose:
    """Load and tokenize, with what is known about each word."""
    check_size(size)
    return Compose(
        [
            *load_grey(size=size, label=True),
            TokenizeReportd(tokenizer, max_length=max_length),
            KeywordTruthd(tokenizer, max_length=max_length),
            SelectItemsd(keys=["image", "label", *TOKENS, "case", "tirads", *TRUTH], allow_missing_keys=True),
        ]
    )


def inference_transforms(*, tokenizer: SentenceTokenizer, size: int, max_length: int) -> Compose:
    """Load the image and tokenize the report."""
    check_size(size)
    return Compose([*load_grey(size=size), TokenizeReportd(tokenizer, max_length=max_length)])


class KeywordTruthd(Transform):
    """Add what is known of each token, float (L,); all zero where the data do not tell.

    ``about_image``: its sentence is about this image; ``about_nodule``: about some image; ``attribute``: it is an
    attribute word.
    """

    def __init__(self, tokenizer: SentenceTokenizer, *, max_length: int) -> None:
        self.tokenizer, self.max_length = tokenizer, max_length

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        truth = {name: torch.zeros(self.max_length) for name in TRUTH}
        report, sentences = str(data.get("report") or ""), data.get("sentences") or []
        spans = encode_report(self.tokenizer, report, self.max_length).spans
        start = 0
        for sentence in sentences:
            start = report.index(sentence["text"], start)
            attributes = _places(sentence, start)
            for index, (first, last) in enumerate(spans):
                if start <= first < last <= start + len(sentence["text"]):
                    truth["about_image"][index] = float(sentence["about_image"])
                    truth["about_nodule"][index] = float(bool(sentence["images"]))
                    truth["attribute"][index] = float(any(a < last and first < b for a, b in attributes))
            start += len(sentence["text"])
        return {**data, **truth}  # type: ignore[dict-item]


def _places(sentence: dict, start: int) -> list[tuple[int, int]]:
    """Characters of the report that the attribute words of ``sentence`` fill."""
    text = sentence["text"].lower()
    results = [(text.find(word.lower()), len(word)) for word in sentence["attributes"]]
    return [(start + position, start + position + length) for position, length in results if position >= 0]


def read_cases(
    *, root: str, split: str, reports: str = "own", test_fold: int | None = None, check: bool = True
) -> list[dict]:
    """Cases of a data set with ``reports`` "own", "wrong" (the next patient's) or "empty", for ablations.

    Args:
        test_fold, check: as :func:`common.datasets.layouts.read_dataset` has them.

    Raises:
        ValueError: another word for ``reports``.
    """
    cases = read_dataset(root, split, test_fold=test_fold, check=check)
    if reports == "own":
        return cases
    if reports == "empty":
        return [{**case, "report": "", "sentences": []} for case in cases]
    if reports != "wrong":
        raise ValueError(f"reports: {reports!r} is none of 'own', 'wrong', 'empty'")
    names = list(dict.fromkeys(case["case"] for case in cases))
    following = dict(zip(names, names[1:] + names[:1], strict=True))
    report_of = {case["case"]: case["report"] for case in cases}
    return [{**case, "report": report_of[following[case["case"]]], "sentences": []} for case in cases]


def list_cases(
    *, image: str | None, report: str | None, data_dir: str | None, test_fold: int | None = None
) -> list[dict]:
    """What inference runs over: ``image`` (a file or a folder) with ``report``, a text or the name of a text file.

    Without ``image``, the test split with its own reports.

    Raises:
        FileNotFoundError: no such image; ``report`` ends in .txt and is no file.
    """
    if image is None:
        cases = read_dataset(str(data_dir), "test", test_fold=test_fold)
        text = text_or_file(report, id="report")
        told = [{"report": case["report"] if text is None else text} for case in cases]
        return [{"image": case["image"], **truth_of(case), **said} for case, said in zip(cases, told, strict=True)]
    text = text_or_file(report, id="report") or ""
    return [{"image": name, "report": text} for name in list_each(image)]
