"""One iteration of training, validation, evaluation and inference, for MONAI's engines."""

from __future__ import annotations

import torch
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from torch import nn

from common.engine.precision import autocast
from common.engine.steps import clip_and_step, emit, emit_predictions, emit_training, mean_of_logits, to_device
from common.text.sides import mirrored_text

from .conditions import TextConditions, VisualConditions, mix_prompts
from .network import CLIPTNseg


class FromFeatures(nn.Module):
    """The trained part as a module of its own, from frozen features, which data parallel can wrap."""

    def __init__(self, network: CLIPTNseg) -> None:
        super().__init__()
        self.coarse, self.fine, self.head = network.coarse, network.fine, network.head
        self.segment = network.segment

    def forward(self, image: torch.Tensor, taps: list[torch.Tensor], condition: torch.Tensor) -> torch.Tensor:
        """Logits (B, 1, H, W) of ``image`` (B, 3, H, W), its taps (B, T, D) and condition (B, E)."""
        return self.segment(image, taps, condition)


def train_step(
    engine: SupervisedTrainer,
    batch: dict,
    *,
    trained: nn.Module,
    text_conditions: TextConditions | None,
    visual_conditions: VisualConditions | None,
    max_norm: float,
    amp: bool | str,
) -> list[dict]:
    """Take one step, on the batch's ``taps`` if it brings them, else on CLIP's.

    Args:
        trained: :class:`FromFeatures` of the network, wrapped where there are several processes.
        text_conditions: None, an ablation: the condition is zero.
        visual_conditions: to mix the text condition with; None: text alone.
        max_norm: largest gradient norm.
    """
    device = engine.state.device
    image, label = to_device(batch, device, ("image", "label")).values()
    network: CLIPTNseg = engine.network.train()  # type: ignore[assignment]
    with autocast(device, amp):
        with torch.no_grad():
            taps, condition = _taps(batch, network, image), _condition(batch, network, image, text_conditions)
            if visual_conditions is not None and text_conditions is not None:
                visual = batch["visual"].to(device)
                condition = mix_prompts(condition, visual_conditions(visual), visual >= 0)
        logits = trained(image, taps, condition)
    loss = engine.loss_function(logits.float(), label)
    clip_and_step(engine, loss, max_norm=max_norm)
    output = {"image": image, "label": label, "pred": logits.detach().float(), "loss": loss.detach()}
    return emit_training(engine, output, {"segmentation": loss})


def predict_step(
    engine: SupervisedEvaluator,
    batch: dict,
    *,
    text_conditions: TextConditions | None,
    amp: bool | str,
    sides: torch.Tensor | None = None,
) -> dict:
    """Segment by the text condition: ``pred`` (logits), with ``label`` where there is one.

    Args:
        sides: :func:`common.text.sides.mirrored_ids`, to take the mean with the mirrored image and phrase; None: not.
    """
    device = engine.state.device
    (image,) = to_device(batch, device, ["image"]).values()
    network: CLIPTNseg = engine.network.eval()  # type: ignore[assignment]
    with torch.no_grad(), autocast(device, amp):
        condition = _condition(batch, network, image, text_conditions)
        logits = network.segment(image, _taps(batch, network, image), condition)
        if sides is not None:
            mirrored = image.flip(-1)
            swapped = {"input_ids": mirrored_text(batch["input_ids"], sides)}
            condition = _condition(swapped, network, mirrored, text_conditions)
            other = network.segment(mirrored, network.taps(mirrored), condition)
            logits = mean_of_logits(logits, other.flip(-1))
    output = {"image": batch["image"], "pred": logits.float()}
    if "label" not in batch:
        return emit_predictions(engine, output)
    return emit(engine, output | to_device(batch, device, ["label"]))


def _taps(batch: dict, network: CLIPTNseg, image: torch.Tensor) -> list[torch.Tensor]:
    if "taps" in batch:
        return list(batch["taps"].to(image.device).float().unbind(1))
    return network.taps(image)


def _condition(
    batch: dict, network: CLIPTNseg, image: torch.Tensor, text_conditions: TextConditions | None
) -> torch.Tensor:
    if text_conditions is None:
        return image.new_zeros(len(image), network.clip.embed_dim)
    return text_conditions(batch["input_ids"].to(image.device))
