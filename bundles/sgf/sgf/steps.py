"""One iteration of training, validation, evaluation and inference, for MONAI's engines."""

from __future__ import annotations

import torch
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from torch import nn

from common.engine.precision import autocast
from common.engine.stated_findings import MatchPrevalence, StatedFindings, findings_of
from common.engine.steps import descend, emit_predictions, to_device, trim
from common.text.tokenizer import SentenceTokenizer

from .loss import losses
from .network import SGF
from .semantic_space import SemanticSpace


def train_step(
    engine: SupervisedTrainer,
    batch: dict,
    *,
    trained: nn.Module,
    space: SemanticSpace,
    weights: dict[str, float],
    clip_value: float,
    amp: bool | str,
) -> list[dict]:
    """Take one step.

    Args:
        trained: :class:`sgf.network.TeacherForcing` of the network, wrapped where there are several processes.
        weights: of each term; 0 leaves it out.
        clip_value: largest absolute value of a gradient's entry (spec 2.3).
    """
    device = engine.state.device
    data = to_device(trim(batch, pad_id=0), device, batch)
    engine.network.train()
    with autocast(device, amp):
        forced = trained(data["image"], data["input_ids"], data["view_mask"], data["stated"])
    forced = type(forced)(*(part.float() for part in forced))
    terms = losses(forced, data, space=space.to(device), pad_id=0)
    parameters = [p for group in engine.optimizer.param_groups for p in group["params"]]
    return descend(engine, terms, weights=weights, parameters=parameters, clip_value=clip_value)


def match_prevalence(*, network: SGF, stated: StatedFindings) -> MatchPrevalence:
    """The handler of validation."""

    def logits_of(batch: dict, device: torch.device) -> torch.Tensor:
        return network.encode(*to_device(batch, device, ("image", "view_mask")).values()).findings

    return MatchPrevalence(network=network, stated=stated, logits_of=logits_of)


def generate_step(
    engine: SupervisedEvaluator, batch: dict, *, tokenizer: SentenceTokenizer, amp: bool | str, explain: bool = False
) -> dict:
    """Write each study's report: ``text``, ``score``, ``cluster`` (logits), of the best hypothesis ``ids`` and
    ``log_probs`` (T,), and :func:`common.engine.stated_findings.findings_of`.

    Args:
        explain: add ``attention`` (T, views, h, w), where each token looks.
    """
    device = engine.state.device
    network: SGF = engine.network.eval()  # type: ignore[assignment]
    image, view_mask = to_device(batch, device, ("image", "view_mask")).values()
    with torch.no_grad(), autocast(device, amp):
        seen = network.encode(image, view_mask)
        results = network.report(seen.memory, seen.memory_mask)
        ids = results.ids[:, 0]
        attention = network.attention(ids, seen.memory, seen.memory_mask, image) if explain else None
    output = {
        "text": [tokenizer.decode(row) for row in ids.tolist()],
        "ids": ids,
        "log_probs": results.log_probs[:, 0].float(),
        "score": results.scores[:, 0].float(),
        "cluster": seen.clusters.float(),
        **findings_of(network.prompts, seen.findings),
    }
    if attention is not None:
        output["attention"] = attention.float()
    for key in ("report", "label", "study"):
        if key in batch:
            output[key] = batch[key]
    return emit_predictions(engine, output)
