"""How well scores over the words of a report name the words about the image, where the truth is known.

All scores are compared alike: the keyword generator's, the segmenter's attention mass, and leave-one-out.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from ignite.engine import Engine, Events
from sklearn.metrics import roc_auc_score

from common.cli.atomic import write_json
from common.engine.distributed import data_order, gather, is_first


@dataclass
class KeywordCase:
    """The words of one report beside one image, arrays (L,) without padding and special tokens."""

    case: str
    sentence: np.ndarray  # int, sentence of each word
    about_image: np.ndarray  # bool, the sentence is about this image
    about_nodule: np.ndarray  # bool, the sentence is about some image
    attribute: np.ndarray  # bool, an attribute word
    scores: dict[str, np.ndarray]  # method -> float


def sentence_scores(words: KeywordCase, method: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Nodule sentences of one report: ids, mean score of their words, whether they are about this image."""
    ids = np.unique(words.sentence[words.about_nodule])
    scores = np.array([words.scores[method][words.sentence == i].mean() for i in ids])
    about_image = np.array([words.about_image[words.sentence == i].any() for i in ids], dtype=bool)
    return ids, scores, about_image


def keyword_metrics(items: list[KeywordCase], method: str) -> dict[str, float]:
    """Compare scores with the truth over images whose report has own and other nodule sentences.

    Returns:
        ``hit``: the top nodule sentence is the image's own. ``auc_sentence``: area under the ROC curve of own against
        other nodule sentences, all images pooled. ``auc_content``: of own against other sentences' attribute words.
        ``auc_word``: of attribute words against the other words of the own sentences, mean over images.
        ``same``: share of image pairs of one report with the same top sentence. ``chance``: hit of a random choice.
        Empty where no report has both kinds of sentences.
    """
    hits, chance, sentences, contents, inner, tops = [], [], [], [], [], defaultdict(list)
    for words in items:
        ids, scores, about_image = sentence_scores(words, method)
        if not about_image.any() or about_image.all():
            continue
        hits.append(about_image[scores.argmax()])
        chance.append(about_image.mean())
        tops[words.case].append(ids[scores.argmax()])
        sentences.append((about_image, scores))
        content = words.attribute & words.about_nodule
        contents.append((words.about_image[content], words.scores[method][content]))
        inner.append((words.attribute[words.about_image], words.scores[method][words.about_image]))
    if not hits:
        return {}
    pairs = [a == b for group in tops.values() for a, b in combinations(group, 2)]
    return {
        "hit": float(np.mean(hits)),
        "chance": float(np.mean(chance)),
        "auc_sentence": _auc(sentences),
        "auc_content": _auc(contents),
        "auc_word": float(np.mean([_auc([pair]) for pair in inner if 0 < pair[0].mean() < 1] or [0.5])),
        **({"same": float(np.mean(pairs))} if pairs else {}),
    }


def _auc(pairs: list[tuple[np.ndarray, np.ndarray]]) -> float:
    truth, scores = (np.concatenate(column) for column in zip(*pairs, strict=True))
    return float(roc_auc_score(truth, scores))


def keyword_mask_metrics(items: list[KeywordCase], method: str = "generator") -> dict[str, float]:
    """Whether the keyword mask is a mask: its mean, share of grey words (0.1-0.9), share above half the maximum."""
    values = [words.scores[method] for words in items if len(words.sentence)]
    if not values:
        return {}
    flat = np.concatenate(values)
    return {
        "mean_keyword": float(flat.mean()),
        "grey_share": float(((flat > 0.1) & (flat < 0.9)).mean()),
        "chosen_share": float(np.mean([(v > 0.5 * v.max()).mean() for v in values])),
    }


class KeywordMetrics:
    """Handler: collect :class:`KeywordCase` from ``engine.state.output`` and add their metrics as the evaluation ends.

    The names are ``METHOD_hit`` and so on. ``words.json`` in ``output_dir`` keeps what they were computed from.
    """

    def __init__(self, *, output_dir: str | None = None) -> None:
        self.output_dir = output_dir
        self.items: list[KeywordCase] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, lambda _: self.items.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, self._compute)

    def _collect(self, engine: Engine) -> None:
        for item, data in zip(engine.state.output, engine.state.batch, strict=True):  # type: ignore[call-overload]
            word = item["is_word"].bool().cpu()
            chosen = {key: data[key][word].numpy().astype(bool) for key in ("about_image", "about_nodule", "attribute")}
            scores = {name: item[f"score_{name}"].cpu()[word].float().numpy() for name in METHODS}
            self.items.append(KeywordCase(data["case"], data["sentence_ids"][word].numpy(), **chosen, scores=scores))

    def _compute(self, engine: Engine) -> None:
        items = gather(self.items)
        items = [items[index] for index in data_order(len(self.items))]
        for method in METHODS:
            for name, value in keyword_metrics(items, method).items():
                engine.state.metrics[f"{method}_{name}"] = value
        engine.state.metrics.update(keyword_mask_metrics(items))
        if self.output_dir is not None and is_first():
            self._write(items, Path(self.output_dir) / "words.json")

    @staticmethod
    def _write(items: list[KeywordCase], path: Path) -> None:
        rows = [
            {
                "case": w.case,
                "sentence": w.sentence.tolist(),
                "about_image": w.about_image.tolist(),
                "scores": {k: v.tolist() for k, v in w.scores.items()},
            }
            for w in items
        ]
        write_json(path, rows)


METHODS = ("generator", "attention_mass", "leave_one_out")
