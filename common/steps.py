"""What every iteration function of the bundles shares: tensors in, output and events out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from ignite.engine import Engine
from monai.engines.utils import IterationEvents


def as_tensor(value: torch.Tensor) -> torch.Tensor:
    """A plain tensor, of one with or without MONAI's metadata."""
    return value.as_tensor() if hasattr(value, "as_tensor") else value


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
    """Leave the output of an evaluation step in ``engine``, to be decollated and measured where it is."""
    engine.state.output = output
    engine.fire_event(IterationEvents.FORWARD_COMPLETED)
    engine.fire_event(IterationEvents.MODEL_COMPLETED)
    return engine.state.output


def emit_predictions(engine: Engine, output: dict[str, Any]) -> Any:
    """Leave the output of an inference step in ``engine``, on the CPU: files, pictures and texts are made of it."""
    host = {name: value.cpu() if isinstance(value, torch.Tensor) else value for name, value in output.items()}
    return emit(engine, host)
