"""One iteration of training, validation, evaluation and inference of D2R-Net, for MONAI's engines."""

from __future__ import annotations

import torch
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from torch import nn

from common.engine.precision import autocast
from common.engine.stated_findings import MatchPrevalence, StatedFindings, finding_loss, findings_of
from common.engine.steps import descend, emit_predictions, report_loss, to_device, trim, trim_text
from common.text.tokenizer import SentenceTokenizer

from .alignment import Alignment
from .data import TEXT, VISUAL_KEYS
from .network import D2RNet, TeacherForced


class TeacherForcing(nn.Module):
    """Network and alignment as one module, which data parallel can wrap."""

    def __init__(self, network: D2RNet, alignment: Alignment | None) -> None:
        super().__init__()
        self.network = network
        self.alignment = None if alignment is None else alignment.to(next(network.parameters()).device)

    def forward(self, batch: dict[str, torch.Tensor]) -> tuple[TeacherForced, dict[str, torch.Tensor]]:
        """:meth:`d2rnet.report.network.D2RNet.teacher_forcing` of ``batch``, and the terms of the alignment, if any.

        Args:
            batch: arguments of teacher forcing by name, and ``text_ids``, ``text_mask``, ``sentence_ids`` (B, L).
        """
        forced = self.network.teacher_forcing(
            batch["image"], batch["input_ids"], batch["regions"], batch["region_mask"], batch["view_mask"],
            batch["stated"],
        )  # fmt: skip
        if self.alignment is None:
            return forced, {}
        text = {"input_ids": batch["text_ids"], "attention_mask": batch["text_mask"]}
        text["sentence_ids"] = batch["sentence_ids"]
        parts = forced.patches.float(), forced.patch_mask, forced.regions.float(), batch["region_mask"]
        return forced, self.alignment(*parts, text)


def train_step(
    engine: SupervisedTrainer,
    batch: dict,
    *,
    trained: nn.Module,
    weights: dict[str, float],
    clip_value: float,
    amp: bool | str,
) -> list[dict]:
    """Take one step.

    Args:
        trained: :class:`TeacherForcing`, wrapped where there are several processes.
        weights: of ``report``, ``findings``, ``global``, ``local``.
        clip_value: largest absolute value of a gradient's entry (published: 0.1).
    """
    device = engine.state.device
    shorter = trim_text(trim(batch, pad_id=0), TEXT, mask="text_mask")
    data = to_device(shorter, device, shorter)
    trained.train()
    with autocast(device, amp):
        forced, terms = trained(data)
    written = (data["target_ids"] != 0) * data["word_weights"]
    terms = {"report": report_loss(forced.log_probs.float(), data["target_ids"], written), **terms}
    terms |= finding_loss(forced.findings, data["stated"])
    return descend(engine, terms, weights=weights, parameters=trained.parameters(), clip_value=clip_value)


def match_prevalence(*, network: D2RNet, stated: StatedFindings) -> MatchPrevalence:
    """The handler of validation."""

    def logits_of(batch: dict, device: torch.device) -> torch.Tensor:
        seen = to_device(batch, device, VISUAL_KEYS)
        return network.encode(seen["image"], seen["regions"], seen["region_mask"], seen["view_mask"]).findings

    return MatchPrevalence(network=network, stated=stated, logits_of=logits_of)


def generate_step(
    engine: SupervisedEvaluator, batch: dict, *, tokenizer: SentenceTokenizer, amp: bool | str, explain: bool = False
) -> dict:
    """Write each study's report: ``text``, ``score``, of the best hypothesis ``ids`` and ``log_probs`` (T,), and
    :func:`common.engine.stated_findings.findings_of`.

    Args:
        explain: add ``attention`` (T, views, h, w) and ``region_attention`` (T, R), where each token looks.
    """
    device = engine.state.device
    network: D2RNet = engine.network.eval()  # type: ignore[assignment]
    seen = to_device(batch, device, VISUAL_KEYS)
    with torch.no_grad(), autocast(device, amp):
        _, memory, mask, findings = network.encode(
            seen["image"], seen["regions"], seen["region_mask"], seen["view_mask"]
        )
        results = network.report(memory, mask)
        ids = results.ids[:, 0]
        attention = network.attention(ids, memory, mask, seen["image"]) if explain else None
    output = {
        "text": [tokenizer.decode(row) for row in ids.tolist()],
        "ids": ids,
        "log_probs": results.log_probs[:, 0].float(),
        "score": results.scores[:, 0].float(),
        **findings_of(network.prompts, findings),
        **{key: batch[key] for key in ("report", "study", "lesions", "detected") if key in batch},
    }
    if attention is not None:
        output |= {"attention": attention.views.float(), "region_attention": attention.regions.float()}
    return emit_predictions(engine, output)
