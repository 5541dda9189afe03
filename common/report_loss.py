"""Teacher forcing of reports: the loss of their words, and batches without needless padding."""

from __future__ import annotations

import torch


def report_loss(log_probs: torch.Tensor, target_ids: torch.Tensor, written: torch.Tensor) -> torch.Tensor:
    """Negative log-likelihood of a token, mean over all tokens of the batch, the end included."""
    return -(log_probs.gather(2, target_ids[:, :, None])[:, :, 0] * written).sum() / written.sum()


def trim(batch: dict[str, torch.Tensor], *, pad_id: int) -> dict[str, torch.Tensor]:
    """The batch without the places that are padding in every report."""
    length = int((batch["target_ids"] != pad_id).sum(1).max())
    return {**batch, **{name: batch[name][:, :length] for name in ("input_ids", "target_ids")}}
