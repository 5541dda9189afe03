"""Teacher forcing of reports: the loss of their words, batches without needless padding, a step of the optimiser."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from monai.engines import SupervisedTrainer

from common.steps import emit_training


def report_loss(log_probs: torch.Tensor, target_ids: torch.Tensor, written: torch.Tensor) -> torch.Tensor:
    """Negative log-likelihood of a token, mean over all tokens of the batch, the end included."""
    return -(log_probs.gather(2, target_ids[:, :, None])[:, :, 0] * written).sum() / written.sum()


def trim(batch: dict[str, torch.Tensor], *, pad_id: int) -> dict[str, torch.Tensor]:
    """The batch without the places that are padding in every report."""
    length = int((batch["target_ids"] != pad_id).sum(1).max())
    return {**batch, **{name: batch[name][:, :length] for name in ("input_ids", "target_ids")}}


def descend(
    engine: SupervisedTrainer,
    terms: dict[str, torch.Tensor],
    *,
    weights: dict[str, float],
    parameters: Iterable[torch.nn.Parameter],
    clip_value: float,
) -> list[dict]:
    """Take a step of ``engine``'s optimiser down the weighted sum of ``terms``; return, and leave, its output.

    Args:
        weights: of each term; 0 leaves it out.
        clip_value: largest absolute value of a gradient's entry.
    """
    loss = torch.stack([weights[name] * value.float() for name, value in terms.items() if weights[name]]).sum()
    engine.optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_value_(parameters, clip_value)
    engine.optimizer.step()
    return emit_training(engine, {"loss": loss.detach()}, terms)
