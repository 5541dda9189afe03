"""One iteration of evaluation and of inference: segmentations under erased words, and scores over the words."""

from __future__ import annotations

import torch
from monai.engines import SupervisedEvaluator

from common.steps import emit, emit_predictions

from .generator import keyword_probabilities, sum_by_sentence
from .iteration import TEXT, to_device
from .loss import segmentation_loss
from .network import AKESSFA


def evaluate_step(engine: SupervisedEvaluator, batch: dict, *, amp: bool, top_k: int) -> dict:
    """Segment with and without the report, and without chosen words; score the words by three methods.

    Returns:
        ``pred``, ``pred_without_report``, ``pred_without_keywords`` (the ``top_k`` highest keywords of nodule
        sentences erased), ``pred_without_others`` (as many attribute words of other images' sentences erased), logits
        (B, 1, H, W); ``is_word`` and ``score_generator``, ``score_attention_mass``, ``score_leave_one_out``, (B, L).
    """
    data = to_device(batch, engine.state.device)
    truth = {name: batch[name].to(engine.state.device) for name in ("own", "about_nodule", "attribute")}
    network: AKESSFA = engine.network  # type: ignore[assignment]
    network.eval()
    text = [data[key] for key in TEXT]
    with torch.no_grad(), torch.autocast(data["image"].device.type, dtype=torch.bfloat16, enabled=amp):
        scores = word_scores(network, data)
        is_word = network.segmenter.is_word(*text[:2])
        others = truth["attribute"] * truth["about_nodule"] * (1 - truth["own"])
        versions = {
            "pred": torch.ones_like(is_word),
            "pred_without_report": torch.zeros_like(is_word),
            "pred_without_keywords": 1
            - highest(scores["generator"], truth["attribute"] * truth["about_nodule"], top_k),
            "pred_without_others": 1 - highest(torch.rand_like(is_word), others, top_k),
        }
        logits = network.segmenter(data["image"], *text, torch.stack(list(versions.values()), dim=1)).logits.float()
    output = {
        "image": batch["image"],
        "label": data["label"],
        **{name: logits[:, index : index + 1] for index, name in enumerate(versions)},
        "is_word": is_word,
        **{f"score_{name}": value for name, value in scores.items()},
    }
    return emit(engine, output)


def word_scores(network: AKESSFA, data: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Scores over words, (B, L), by the keyword generator, by attention mass, and by leaving each sentence out."""
    text = [data[key] for key in TEXT]
    evidence = network.segmenter.examine(network.segmenter.encode_image(data["image"]), *text)
    is_word = network.segmenter.is_word(*text[:2])
    logits = network.generator(evidence.words, evidence.pixels, evidence.mass, is_word, text[2])
    return {
        "generator": keyword_probabilities(logits / network.temperature, is_word),
        "attention_mass": evidence.mass * is_word,
        "leave_one_out": leave_one_out(network, data, evidence.logits) * is_word,
    }


def leave_one_out(network: AKESSFA, data: dict[str, torch.Tensor], logits: torch.Tensor) -> torch.Tensor:
    """How far the prediction moves when a word's sentence is erased, (B, L): the loss against the full prediction."""
    sentences = data["sentence_ids"]
    ids = torch.arange(int(sentences.max()) + 1, device=sentences.device)
    keep = (sentences[:, None, :] != ids[None, :, None]).float()  # (B, S, L)
    without = network.segmenter(data["image"], *(data[key] for key in TEXT), keep).logits.float()
    moved = segmentation_loss(without, (logits > 0).float())  # (B, S)
    return moved.gather(1, sentences)


def highest(scores: torch.Tensor, allowed: torch.Tensor, count: int) -> torch.Tensor:
    """Mark the ``count`` highest ``scores`` (B, L) among ``allowed`` words of each report with 1."""
    ranked = scores.masked_fill(allowed <= 0, float("-inf")).topk(min(count, scores.shape[1]), dim=1)
    marked = torch.zeros_like(scores).scatter(1, ranked.indices, 1.0)
    return marked * (allowed > 0)


def infer_step(engine: SupervisedEvaluator, batch: dict, *, amp: bool) -> dict:
    """Segment with the full report: ``image, pred`` (logits), ``keywords`` (B, L), ``attention`` (B, h, w, L).

    ``attention`` is that of stride 8; ``sentence_score`` (B, L) gives each word its sentence's mean keyword.
    """
    data = to_device(batch, engine.state.device)
    network: AKESSFA = engine.network  # type: ignore[assignment]
    network.eval()
    text = [data[key] for key in TEXT]
    with torch.no_grad(), torch.autocast(data["image"].device.type, dtype=torch.bfloat16, enabled=amp):
        explanation = network.explain(data["image"], *text)
        is_word = network.segmenter.is_word(*text[:2])
    count = sum_by_sentence(is_word, text[2]).clamp(min=1.0)
    output = {
        "image": batch["image"],
        "pred": explanation.logits.float(),
        "keywords": explanation.keywords,
        "attention": explanation.attention[0].float(),
        "sentence_score": sum_by_sentence(explanation.keywords * is_word, text[2]) / count,
    }
    return emit_predictions(engine, output)
