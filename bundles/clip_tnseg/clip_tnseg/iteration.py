"""One iteration of training, validation, evaluation and inference, for MONAI's engines."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from torch import nn

from common.recent import Recent
from common.steps import as_tensor, emit, emit_predictions, emit_training

from .frozen_clip import FrozenClip
from .network import CLIPTNseg


class TextConditions:
    """Conditions of phrases; those of the last ``most`` phrases are kept."""

    def __init__(self, clip: FrozenClip, *, most: int = 4096) -> None:
        self.clip = clip
        self.known: Recent[tuple[int, ...], torch.Tensor] = Recent(most)

    @torch.no_grad()
    def __call__(self, input_ids: torch.Tensor) -> torch.Tensor:
        """Conditions (B, E) of ids (B, L)."""
        keys = [tuple(row) for row in input_ids.tolist()]
        ready = {key: self.known.values[key] for key in keys if key in self.known.values}
        new = {key: index for index, key in enumerate(keys) if key not in ready}
        if new:
            ready |= dict(zip(new, self.clip.condition(input_ids[list(new.values())]).float(), strict=True))
        for key, value in ready.items():
            self.known.get(key, lambda value=value: value)  # type: ignore[misc]
        return torch.stack([ready[key] for key in keys])


class VisualConditions:
    """Conditions of visual prompts, all computed at the first use; every image is lit in one way only.

    Args:
        prompts: items with ``image`` (3, H, W), of :func:`clip_tnseg.data.visual_transforms`.
    """

    def __init__(self, clip: FrozenClip, prompts: Sequence[dict], *, batch_size: int = 16) -> None:
        self.clip, self.prompts, self.batch_size = clip, prompts, batch_size
        self.known: torch.Tensor | None = None

    def __call__(self, indices: torch.Tensor) -> torch.Tensor:
        """Conditions (B, E) of prompts ``indices`` (B,); -1 stands for none and gives zeros."""
        if self.known is None:
            self.known = self._embed(indices.device)
        return self.known[indices] * (indices >= 0)[:, None]

    def _embed(self, device: torch.device) -> torch.Tensor:
        found = []
        for start in range(0, len(self.prompts), self.batch_size):
            stop = min(start + self.batch_size, len(self.prompts))
            images = torch.stack([as_tensor(self.prompts[index]["image"]) for index in range(start, stop)])
            found.append(self.clip.image_embedding(images.to(device)).float())
        return torch.cat(found)


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
    share = torch.where(has_visual, torch.rand_like(text[:, 0]), torch.ones_like(text[:, 0]))[:, None]
    return share * text + (1 - share) * visual


def train_step(
    engine: SupervisedTrainer,
    batch: dict,
    *,
    trained: nn.Module,
    text_conditions: TextConditions | None,
    visual_conditions: VisualConditions | None,
    clip: float,
    amp: bool,
) -> list[dict]:
    """Take one step, on the batch's ``taps`` if it brings them, else on CLIP's.

    Args:
        trained: :class:`FromFeatures` of the network, wrapped where there are several processes.
        text_conditions: None, an ablation: the condition is zero.
        visual_conditions: to mix the text condition with; None: text alone.
        clip: largest gradient norm.
    """
    device = engine.state.device
    image, label = (as_tensor(batch[key]).to(device) for key in ("image", "label"))
    network: CLIPTNseg = engine.network.train()  # type: ignore[assignment]
    with torch.autocast(device.type, dtype=torch.bfloat16, enabled=amp):
        with torch.no_grad():
            taps, condition = _taps(batch, network, image), _condition(batch, network, image, text_conditions)
            if visual_conditions is not None and text_conditions is not None:
                visual = batch["visual"].to(device)
                condition = mix_prompts(condition, visual_conditions(visual), visual >= 0)
        logits = trained(image, taps, condition)
    loss = engine.loss_function(logits.float(), label)
    engine.optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_([p for group in engine.optimizer.param_groups for p in group["params"]], clip)
    engine.optimizer.step()
    output = {"image": image, "label": label, "pred": logits.detach().float(), "loss": loss.detach()}
    return emit_training(engine, output, {"segmentation": loss})


def predict_step(
    engine: SupervisedEvaluator, batch: dict, *, text_conditions: TextConditions | None, amp: bool
) -> dict:
    """Segment by the text condition: ``pred`` (logits), with ``label`` where there is one."""
    device = engine.state.device
    image = as_tensor(batch["image"]).to(device)
    network: CLIPTNseg = engine.network.eval()  # type: ignore[assignment]
    with torch.no_grad(), torch.autocast(device.type, dtype=torch.bfloat16, enabled=amp):
        condition = _condition(batch, network, image, text_conditions)
        logits = network.segment(image, _taps(batch, network, image), condition)
    output = {"image": batch["image"], "pred": logits.float()}
    if "label" not in batch:
        return emit_predictions(engine, output)
    return emit(engine, output | {"label": as_tensor(batch["label"]).to(device)})


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
