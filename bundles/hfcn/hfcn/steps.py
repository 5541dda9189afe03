"""One iteration of training, validation and inference, for MONAI's engines."""

from __future__ import annotations

import torch
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from torch import nn

from common.engine.precision import autocast
from common.engine.steps import emit, emit_predictions, emit_training, take_step, to_device

from .loss import branch_losses
from .network import HFCN, average


def train_step(
    engine: SupervisedTrainer,
    batch: dict,
    *,
    both: nn.Module,
    weights: dict[str, float],
    class_weights: list[float] | None,
    amp: bool | str,
) -> list[dict]:
    """Take one step; ``terms`` of the output names every loss.

    Args:
        both: :class:`hfcn.network.BranchesAndFusion` of the network, wrapped where there are several processes.
        weights: of the terms ``global``, ``crops`` and ``hybrid``.
        class_weights: of benign and malignant images, or None.
    """
    image, label = to_device(batch, engine.state.device, ("image", "malignancy")).values()
    balance = None if class_weights is None else torch.tensor(class_weights, device=image.device)
    engine.network.train()
    with autocast(image.device, amp):
        branches, fused = both(image)
    losses = branch_losses(branches, fused, label, balance)
    loss = torch.stack([weights[name] * term for name, term in losses.items()]).sum()
    take_step(engine, loss)
    output = {"image": image, "label": label, "pred": fused.detach().float(), "loss": loss.detach()}
    return emit_training(engine, output, losses)


def predict_step(engine: SupervisedEvaluator, batch: dict, *, amp: bool | str) -> dict:
    """Classify: ``pred`` (B, 2) probabilities, ``prob`` (B, 1) of malignant, and what each branch says and sees."""
    (image,) = to_device(batch, engine.state.device, ["image"]).values()
    network: HFCN = engine.network.eval()  # type: ignore[assignment]
    with torch.no_grad(), autocast(image.device, amp):
        branches = network.branches(image)
        fused = network.fuse(branches).float().exp()
    output = {
        "image": batch["image"],
        "pred": fused,
        "prob": fused[:, 1:],
        "prob_global": branches.whole[:, 1].float().exp(),
        "prob_crops": average(branches.crops.float())[:, 1].exp(),
        "prob_mask": branches.mask[:, 1].float().exp(),
        "asks_mask": branches.asks_mask,
        "can_be_calibrated": branches.asks_mask | (network.mask_branch is None),
        "crop_probs": branches.crops[:, :, 1].float().exp(),
        "windows": branches.windows,
        "activation": branches.activation.float(),
    }
    if "malignancy" not in batch:
        return emit_predictions(engine, output)
    return emit(engine, output | {"label": batch["malignancy"][:, None].to(image.device)})
