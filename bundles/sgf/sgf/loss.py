"""The terms of training: the report's words, the cluster (KMVE), the global semantic comparison, and findings."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from common.engine.stated_findings import finding_loss
from common.engine.steps import report_loss

from .data import UNKNOWN_LABEL
from .network import TeacherForced
from .semantic_space import SemanticSpace


def losses(forced: TeacherForced, batch: dict[str, torch.Tensor], *, space: SemanticSpace, pad_id: int) -> dict:
    """Named terms, unweighted.

    Args:
        batch: ``target_ids``, ``word_weights`` (B, T), ``label`` (B,), ``embedding`` (B, dims), unit vectors, and
            ``stated`` (B, findings).
    """
    written = batch["target_ids"] != pad_id
    return {
        "report": report_loss(forced.log_probs, batch["target_ids"], written * batch["word_weights"]),
        "cluster": cluster_loss(forced.clusters, batch["label"]),
        "comparison": 1 - F.cosine_similarity(space(forced.log_probs, written), batch["embedding"], dim=1).mean(),
        **finding_loss(forced.findings, batch["stated"]),
    }


def cluster_loss(clusters: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Cross-entropy of the logits (B, K); the published one is of their sigmoid, which cannot fall far (spec 2.7).

    Studies without a cluster count nothing; 0 where no study has one.
    """
    known = (label != UNKNOWN_LABEL).float()
    each = F.cross_entropy(clusters, label, ignore_index=UNKNOWN_LABEL, reduction="none")
    return each.sum() / known.sum().clamp(min=1.0)
