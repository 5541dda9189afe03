"""What the iteration functions of the bundles share: tensors in, a step of the optimiser, output and events out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from ignite.engine import Engine
from monai.engines import SupervisedTrainer
from monai.engines.utils import IterationEvents

from common.engine.failures import require_numbers


def report_loss(log_probs: torch.Tensor, target_ids: torch.Tensor, written: torch.Tensor) -> torch.Tensor:
    """Negative log-likelihood of a token, mean over all tokens of the batch, the end included, each by its weight.

    Args:
        written: (B, T) 0 or False where there is no token; else its weight.
    """
    return -(log_probs.gather(2, target_ids[:, :, None])[:, :, 0] * written).sum() / written.sum()


def trim(batch: dict[str, torch.Tensor], *, pad_id: int) -> dict[str, torch.Tensor]:
    """The batch cut after the last token of its longest report; ids and weights are (B, T)."""
    length = int((batch["target_ids"] != pad_id).sum(1).max())
    names = ("input_ids", "target_ids", "word_weights")
    return {**batch, **{name: batch[name][:, :length] for name in names if name in batch}}


def trim_text(batch: dict[str, torch.Tensor], names: Sequence[str], *, mask: str) -> dict[str, torch.Tensor]:
    """The batch whose tensors ``names`` (B, L) end with its longest text, which ``mask`` (B, L) tells: 1 at a token.

    One position stays of texts without any token.
    """
    positions = batch[mask].any(dim=0).nonzero()
    length = int(positions[-1]) + 1 if len(positions) else 1
    return {**batch, **{name: batch[name][:, :length] for name in names}}


def take_step(
    engine: Engine, loss: torch.Tensor, *, clip: Callable[[], object] = lambda: None, optimizer: Any = None
) -> None:
    """Add the gradient of ``loss``; at the end of a group of ``accumulate`` batches, and of an epoch, take a step.

    The step goes down the group's mean, as that of one batch of ``accumulate`` times the size would, but for norms that
    see the batch. In float16 it is left out where the gradient overflows (:class:`common.engine.precision.ScaledLoss`).

    Args:
        clip: called before the step, on gradients of their true size.
        optimizer: None: ``engine``'s.
    """
    optimizer = engine.optimizer if optimizer is None else optimizer  # type: ignore[attr-defined]
    first, last = position_in_group(engine)
    if first:
        optimizer.zero_grad()
    size, scaler = group_size(engine), getattr(engine.state, "scaler", None)
    mean = loss / size if size > 1 else loss
    (mean if scaler is None else scaler.scale(mean)).backward()
    if not last:
        return
    if scaler is not None:
        scaler.unscale_(optimizer)
    clip()
    if scaler is None:
        optimizer.step()
    else:
        scaler.step(optimizer)  # the scale changes after all optimizers: common.engine.precision


def accumulated(engine: Engine) -> int:
    """Batches whose gradients make one step of ``engine``."""
    return getattr(engine.state, "accumulate", 1)


def group_size(engine: Engine) -> int:
    """Batches of the group that ``engine`` is at: fewer where an epoch ends."""
    every = accumulated(engine)
    if every == 1:
        return 1
    length = engine.state.epoch_length or 1
    position = (engine.state.iteration - 1) % length
    return min(every, length - position // every * every)


def position_in_group(engine: Engine) -> tuple[bool, bool]:
    """Whether the batch that ``engine`` is at is the first, and the last, of those that make one step."""
    every = accumulated(engine)
    if every == 1:
        return True, True
    length = engine.state.epoch_length or 1
    position = (engine.state.iteration - 1) % length
    return position % every == 0, (position + 1) % every == 0 or position + 1 == length


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
        terms: scalars.
        weights: of each term; 0 leaves it out.
        clip_value: largest absolute value of a gradient's entry.

    Raises:
        ValueError: a term has no weight.
    """
    parameters, missing = list(parameters), terms.keys() - weights.keys()
    if missing:
        raise ValueError(f"loss_weights: none for {', '.join(sorted(missing))}; add it, 0 leaves the term out")
    loss = torch.stack([weights[name] * value.float() for name, value in terms.items() if weights[name]]).sum()
    take_step(engine, loss, clip=lambda: torch.nn.utils.clip_grad_value_(parameters, clip_value))
    return emit_training(engine, {"loss": loss.detach()}, terms)


def mean_of_logits(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Logits of the mean of two predictions' probabilities, float32."""
    mean = (first.float().sigmoid() + second.float().sigmoid()) / 2
    return torch.logit(mean, eps=1e-6)


def clip_and_step(
    engine: Engine, loss: torch.Tensor, *, max_norm: float, optimizer: torch.optim.Optimizer | None = None
) -> None:
    """A step down ``loss``, whose gradient's norm is cut at ``max_norm``; of ``engine``'s optimizer, or another."""
    used: torch.optim.Optimizer = engine.optimizer if optimizer is None else optimizer  # type: ignore[attr-defined]
    parameters = [parameter for group in used.param_groups for parameter in group["params"]]
    take_step(engine, loss, clip=lambda: torch.nn.utils.clip_grad_norm_(parameters, max_norm), optimizer=used)


def as_tensor(value: torch.Tensor) -> torch.Tensor:
    """A plain tensor, of one with or without MONAI's metadata."""
    return value.as_tensor() if hasattr(value, "as_tensor") else value


def to_device(batch: Mapping[str, Any], device: torch.device, keys: Iterable[str]) -> dict[str, torch.Tensor]:
    """The tensors ``keys`` of a batch, those that it has, plain and on ``device``; pinned ones are copied meanwhile."""
    return {key: as_tensor(batch[key]).to(device, non_blocking=True) for key in keys if key in batch}


def emit_training(engine: Engine, output: dict[str, Any], terms: Mapping[str, torch.Tensor]) -> list[dict[str, Any]]:
    """Leave the output of a training step in ``engine``: a list of one, as MONAI's handlers read losses from.

    Args:
        output: ``loss`` and what else the step tells.
        terms: of the loss, by name; they stay on their device, so that no step waits for the GPU.
    """
    engine.state.output = [{**output, "terms": {name: term.detach() for name, term in terms.items()}}]  # type: ignore
    engine.fire_event(IterationEvents.MODEL_COMPLETED)
    return engine.state.output  # type: ignore[return-value]


def emit(engine: Engine, output: Any) -> Any:
    """Leave the output of an evaluation step in ``engine``, to be decollated and measured where it is.

    Raises:
        NoNumberError: a value that the network gives is no number, which would be measured as "nothing found".
    """
    if isinstance(output, Mapping):
        require_numbers("a case of this batch", output)
    return _leave(engine, output)


def _leave(engine: Engine, output: Any) -> Any:
    engine.state.output = output
    engine.fire_event(IterationEvents.FORWARD_COMPLETED)
    engine.fire_event(IterationEvents.MODEL_COMPLETED)
    return engine.state.output


def emit_predictions(engine: Engine, output: dict[str, Any]) -> Any:
    """Leave the output of an inference step in ``engine``, on the CPU: files, pictures and texts are made of it."""
    host = {name: value.cpu() if isinstance(value, torch.Tensor) else value for name, value in output.items()}
    return _leave(engine, host)
