"""One iteration of training, validation, evaluation and inference, for MONAI's engines."""

from __future__ import annotations

import torch
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.engines.utils import IterationEvents
from torch import nn

from .frozen_clip import FrozenClip
from .network import CLIPTNseg


class Conditions:
    """Text conditions of a frozen CLIP, each phrase computed once."""

    def __init__(self, clip: FrozenClip) -> None:
        self.clip = clip
        self.known: dict[tuple[int, ...], torch.Tensor] = {}

    @torch.no_grad()
    def __call__(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Conditions (B, E) of ids (B, L)."""
        keys = [tuple(row) for row in input_ids.tolist()]
        new = {key: index for index, key in enumerate(keys) if key not in self.known}
        if new:
            fresh = self.clip.condition(input_ids[list(new.values())])
            self.known.update(zip(new, fresh.float(), strict=True))
        return torch.stack([self.known[key] for key in keys])


class FromFeatures(nn.Module):
    """The trained part as a module of its own, from frozen features, which data parallel can wrap."""

    def __init__(self, network: CLIPTNseg) -> None:
        super().__init__()
        self.coarse, self.fine, self.head = network.coarse, network.fine, network.head
        self.segment = network.segment

    def forward(self, image: torch.Tensor, taps: list[torch.Tensor], condition: torch.Tensor) -> torch.Tensor:
        return self.segment(image, taps, condition)


def mix_prompts(text: torch.Tensor, visual: torch.Tensor, has_visual: torch.Tensor) -> torch.Tensor:
    """``w * text + (1 - w) * visual`` (B, E), w from U(0, 1) for each image; w = 1 without a visual prompt (4.3)."""
    share = torch.where(has_visual > 0, torch.rand_like(has_visual), torch.ones_like(has_visual))[:, None]
    return share * text + (1 - share) * visual


def train_step(
    engine: SupervisedTrainer,
    batch: dict,
    *,
    trained: nn.Module,
    conditions: Conditions,
    visual_prompts: bool,
    fixed_condition: bool,
    clip: float,
    amp: bool,
) -> dict:
    """Take one step.

    Args:
        trained: :class:`FromFeatures` of the network, wrapped where there are several processes.
        visual_prompts: mix the text condition with that of another image.
        fixed_condition: an ablation: the condition is zero.
        clip: largest gradient norm.
    """
    device = engine.state.device
    image, label, ids = (_tensor(batch[key]).to(device) for key in ("image", "label", "input_ids"))
    network: CLIPTNseg = engine.network.train()  # type: ignore[assignment]
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=amp):
        with torch.no_grad():
            taps, condition = network.clip(image), conditions(ids)
            if visual_prompts:
                seen = network.clip.image_embedding(_tensor(batch["visual"]).to(device)).float()
                condition = mix_prompts(condition, seen, batch["has_visual"].to(device))
            if fixed_condition:
                condition = torch.zeros_like(condition)
        logits = trained(image, taps, condition)
    loss = engine.loss_function(logits.float(), label)
    engine.optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_([p for group in engine.optimizer.param_groups for p in group["params"]], clip)
    engine.optimizer.step()
    engine.state.output = {
        "image": image,
        "label": label,
        "pred": logits.detach().float(),
        "loss": loss.detach(),
        "terms": {"dice": float(loss.detach())},
    }
    engine.fire_event(IterationEvents.MODEL_COMPLETED)
    return engine.state.output


def predict_step(engine: SupervisedEvaluator, batch: dict, *, fixed_condition: bool, amp: bool) -> dict:
    """Segment by the text condition: ``pred`` (logits), with ``label`` where there is one."""
    device = engine.state.device
    image, ids = (_tensor(batch[key]).to(device) for key in ("image", "input_ids"))
    network: CLIPTNseg = engine.network.eval()  # type: ignore[assignment]
    with torch.no_grad(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=amp):
        logits = network(image) if fixed_condition else network(image, ids)
    engine.state.output = {"image": batch["image"], "pred": logits.float()}
    if "label" in batch:
        engine.state.output["label"] = _tensor(batch["label"]).to(device)
    engine.fire_event(IterationEvents.FORWARD_COMPLETED)
    engine.fire_event(IterationEvents.MODEL_COMPLETED)
    return engine.state.output


def _tensor(value: torch.Tensor) -> torch.Tensor:
    return value.as_tensor() if hasattr(value, "as_tensor") else value
