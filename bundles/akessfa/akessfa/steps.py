"""One iteration of training, validation, evaluation and inference, for MONAI's engines."""

from __future__ import annotations

import torch
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from torch import nn

from common.engine.precision import autocast
from common.engine.steps import (
    clip_and_step,
    emit,
    emit_predictions,
    emit_training,
    mean_of_logits,
    to_device,
    trim_text,
)
from common.nn.losses import segmentation_loss
from common.text.sides import mirrored_text

from .erasure import keyword_targets, random_keep
from .generator import keyword_probabilities, sum_by_sentence
from .loss import alignment_loss, keyword_loss
from .network import AKESSFA, Evidence
from .phases import Phase, PhaseSchedule


def evaluate_step(
    engine: SupervisedEvaluator, batch: dict, *, amp: bool | str, top_k: int, sides: torch.Tensor | None = None
) -> dict:
    """Segment with and without the report, and without chosen words; score the words by three methods.

    Returns:
        ``pred``, ``pred_without_report``, ``pred_without_keywords`` (the ``top_k`` highest keywords of nodule
        sentences erased), ``pred_without_others`` (as many attribute words of other images' sentences erased), logits
        (B, 1, H, W); ``is_word`` and ``score_generator``, ``score_attention_mass``, ``score_leave_one_out``, (B, L);
        ``fit`` (B,) as of :func:`infer_step`.
    """
    data = to_device(batch, engine.state.device, TENSORS)
    truth = to_device(batch, engine.state.device, TRUTH)
    network: AKESSFA = engine.network  # type: ignore[assignment]
    network.eval()
    text = [data[key] for key in TEXT]
    with torch.no_grad(), autocast(data["image"].device, amp):
        features = network.segmenter.encode_image(data["image"])
        evidence = network.segmenter.examine(features, *text)
        scores = word_scores(network, data, evidence)
        is_word = network.segmenter.is_word(*text[:2])
        fit = network.segmenter.fit(features, evidence, is_word, text[2])
        others = truth["attribute"] * truth["about_nodule"] * (1 - truth["about_image"])
        versions = {
            "pred": torch.ones_like(is_word),
            "pred_without_report": torch.zeros_like(is_word),
            "pred_without_keywords": 1
            - highest(scores["generator"], truth["attribute"] * truth["about_nodule"], top_k),
            "pred_without_others": 1 - highest(torch.rand_like(is_word), others, top_k),
        }
        logits = segment(network, data, torch.stack(list(versions.values()), dim=1), sides)
    output = {
        "image": batch["image"],
        "label": data["label"],
        **{name: logits[:, index : index + 1] for index, name in enumerate(versions)},
        "is_word": is_word,
        "fit": fit.float(),
        **{f"score_{name}": value for name, value in scores.items()},
    }
    return emit(engine, output)


def segment(
    network: AKESSFA, data: dict[str, torch.Tensor], keep: torch.Tensor, sides: torch.Tensor | None
) -> torch.Tensor:
    """Logits (B, V, H, W), float32, of each version ``keep`` (B, V, L) of the report.

    Args:
        sides: :func:`common.text.sides.mirrored_ids`, to take the mean with the mirrored image and report; None: not.
    """
    text = [data[key] for key in TEXT]
    logits = network.segmenter(data["image"], *text, keep).logits.float()
    if sides is None:
        return logits
    ids = mirrored_text(text[0], sides)
    other = network.segmenter(data["image"].flip(-2), ids, *text[1:], keep).logits
    return mean_of_logits(logits, other.flip(-2))


def word_scores(network: AKESSFA, data: dict[str, torch.Tensor], evidence: Evidence) -> dict[str, torch.Tensor]:
    """Scores over words, (B, L), by the keyword generator, by attention mass, and by leaving each sentence out."""
    text = [data[key] for key in TEXT]
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


def infer_step(engine: SupervisedEvaluator, batch: dict, *, amp: bool | str, sides: torch.Tensor | None = None) -> dict:
    """Segment with the full report: ``image, pred`` (logits), ``keywords`` (B, L), ``attention`` (B, h, w, L).

    ``attention`` is that of stride 8; ``sentence_score`` (B, L) gives each word its sentence's mean keyword; ``fit``
    (B,) is the affinity of the nodule to its report.

    Args:
        sides: as in :func:`segment`.
    """
    data = to_device(batch, engine.state.device, TENSORS)
    network: AKESSFA = engine.network  # type: ignore[assignment]
    network.eval()
    text = [data[key] for key in TEXT]
    with torch.no_grad(), autocast(data["image"].device, amp):
        explanation = network.explain(data["image"], *text)
        logits = explanation.logits.float()
        if sides is not None:
            logits = segment(network, data, torch.ones_like(text[0])[:, None].float(), sides)
        is_word = network.segmenter.is_word(*text[:2])
    count = sum_by_sentence(is_word, text[2]).clamp(min=1.0)
    output = {
        "image": batch["image"],
        "pred": logits,
        "keywords": explanation.keywords,
        "attention": explanation.attention[0].float(),
        "fit": explanation.fit.float(),
        "sentence_score": sum_by_sentence(explanation.keywords * is_word, text[2]) / count,
    }
    return emit_predictions(engine, output)


TEXT = ("input_ids", "attention_mask", "sentence_ids")
TENSORS = (*TEXT, "image", "label")
TRUTH = ("about_image", "about_nodule", "attribute")


def train_step(
    engine: SupervisedTrainer,
    batch: dict,
    *,
    segmenter: nn.Module,
    generator: nn.Module,
    generator_optimizer: torch.optim.Optimizer,
    phases: PhaseSchedule,
    weights: dict[str, float],
    erasure: dict[str, float],
    max_norm: float,
    amp: bool | str,
) -> list[dict]:
    """Take the segmenter's step and, in the game before it, the generator's; return every term by name in ``terms``.

    ``segmenter`` and ``generator`` are the network's parts, wrapped where there are several processes; ``weights``
    those of the terms ``image_only, full, dropped, keywords, alignment`` (default 1); ``erasure`` the settings of
    :func:`akessfa.erasure.keyword_targets`; ``max_norm`` the largest gradient norm; ``amp`` of
    :func:`common.engine.precision.half_of`.
    """
    data = to_device(trim_text(batch, TEXT, mask="attention_mask"), engine.state.device, TENSORS)
    network: AKESSFA = engine.network  # type: ignore[assignment]
    half = autocast(data["image"].device, amp)
    terms, keywords = dict[str, torch.Tensor](), None
    if phases.phase == Phase.GAME:
        terms, keywords = _generator_step(
            engine, generator, generator_optimizer, data, half, erasure=erasure, max_norm=max_norm
        )
    network.train()
    aligned = weights.get("alignment", 1.0) > 0
    versions = _versions(data, phases.phase, keywords, aligned=aligned)
    with half:
        keep = torch.stack(list(versions.values()), dim=1)
        region = data["label"] if aligned else None
        logits, affinity = segmenter(data["image"], *(data[key] for key in TEXT), keep, region)
    losses = dict(zip(versions, engine.loss_function(logits.float(), data["label"]).mean(0), strict=True))
    if aligned:
        losses["alignment"] = alignment_loss(affinity, data["input_ids"], data["label"])
    if phases.phase == Phase.IMAGE_ONLY:
        losses.pop("full", None)  # there for the alignment alone
    loss = torch.stack([weights.get(name, 1.0) * term for name, term in losses.items()]).sum()
    clip_and_step(engine, loss, max_norm=max_norm)
    output = {"image": data["image"], "label": data["label"], "pred": logits[:, :1].detach().float()}
    return emit_training(engine, output | {"loss": loss.detach()}, losses | terms)


def _versions(
    data: dict[str, torch.Tensor], phase: Phase, keywords: torch.Tensor | None, *, aligned: bool
) -> dict[str, torch.Tensor]:
    """The versions of the report that the segmenter sees in ``phase``, the full one first: name -> keep mask (B, L)."""
    full = torch.ones_like(data["sentence_ids"]).float()
    if phase == Phase.IMAGE_ONLY:
        return ({"full": full} if aligned else {}) | {"image_only": torch.zeros_like(full)}
    if phase == Phase.FULL_REPORT:
        return {"full": full}
    versions = {"full": full, "dropped": random_keep(data["sentence_ids"])}
    if keywords is not None:
        versions["keywords"] = torch.bernoulli(keywords)  # a hard sample: soft masks let every word through a little
    return versions


def _generator_step(
    engine: SupervisedTrainer,
    generator: nn.Module,
    optimizer: torch.optim.Optimizer,
    data: dict[str, torch.Tensor],
    half: torch.autocast,
    *,
    erasure: dict[str, float],
    max_norm: float,
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """Teach the generator which erased sentence and words cost most; the segmenter is only asked, in eval mode.

    Returns:
        The loss terms by name, and the keyword probabilities (B, L) before the step.
    """
    network: AKESSFA = engine.network  # type: ignore[assignment]
    segmenter, text = network.segmenter, [data[key] for key in TEXT]
    is_word = segmenter.is_word(*text[:2])
    network.eval()
    with torch.no_grad(), half:
        features = segmenter.encode_image(data["image"])
        evidence = segmenter.examine(features, *text)

        def loss_of(keep: torch.Tensor) -> torch.Tensor:
            logits = segmenter.segment(features, text[0], text[1], text[2], keep)[0]
            return segmentation_loss(logits.float(), data["label"])

        targets = keyword_targets(loss_of, text[2], is_word, **erasure)  # type: ignore[arg-type]
    generator.train()
    with half:
        scores = generator(evidence.words, evidence.pixels, evidence.mass, is_word, text[2])
    scores = scores.float() / network.temperature
    losses = {
        "generator": keyword_loss(scores[:, :, 0], targets.sentence, targets.sentence_weight),
        "generator_word": keyword_loss(scores[:, :, 1], targets.word, targets.word_weight),
    }
    loss = losses["generator"] + losses["generator_word"]
    clip_and_step(engine, loss, max_norm=max_norm, optimizer=optimizer)
    return losses, keyword_probabilities(scores.detach(), is_word)


def validate_step(engine: SupervisedEvaluator, batch: dict, *, amp: bool | str) -> dict:
    """Segment with the report and without: ``image, label, pred, pred_without_report`` (logits)."""
    data = to_device(batch, engine.state.device, TENSORS)
    network: AKESSFA = engine.network  # type: ignore[assignment]
    network.eval()
    full = torch.ones_like(data["sentence_ids"]).float()
    with torch.no_grad(), autocast(data["image"].device, amp):
        keep = torch.stack([full, torch.zeros_like(full)], dim=1)
        logits = network.segmenter(data["image"], *(data[key] for key in TEXT), keep).logits.float()
    output = {"image": batch["image"], "label": data["label"], "pred": logits[:, :1]}
    return emit(engine, output | {"pred_without_report": logits[:, 1:]})
