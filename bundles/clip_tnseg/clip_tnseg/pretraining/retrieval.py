"""Recall of an image's phrase among all, which decides on the CLIP that is kept."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from ignite import distributed as idist
from ignite.engine import Engine, Events
from transformers import CLIPModel, PreTrainedTokenizerFast

from common.cli.atomic import MANIFEST, folder_beside, replace_folder, require_own
from common.engine.distributed import gather
from common.engine.steps import as_tensor

from .model import at_unit_scale

logger = logging.getLogger(__name__)


def retrieval(
    image: torch.Tensor, text: torch.Tensor, input_ids: torch.Tensor, *, top: tuple[int, ...] = (1, 5)
) -> dict:
    """Recall@k of an image's own phrase among the distinct phrases, beside chance, k / number of phrases.

    Args:
        image, text: unit vectors (N, E).
        input_ids: (N, L), tells which phrases are equal.
    """
    _, target = torch.unique(input_ids, dim=0, return_inverse=True)
    first = torch.stack([(target == index).nonzero()[0, 0] for index in range(int(target.max()) + 1)])
    ranked = (image @ text[first].t()).argsort(dim=1, descending=True)
    metrics = {}
    for k in top:
        metrics[f"recall_at_{k}"] = float((ranked[:, :k] == target[:, None]).any(1).float().mean())
        metrics[f"chance_at_{k}"] = min(1.0, k / len(first))
    return metrics


class Retrieval:
    """Handler of the validation: :func:`retrieval` over all its pairs; recall@5 decides which CLIP is the best.

    Args:
        folder: where ``save_pretrained`` writes the best CLIP, :func:`at_unit_scale`, and its tokenizer, whole or not
            at all; :func:`publish` moves it as the training ends.
    """

    def __init__(self, *, clip: CLIPModel, tokenizer: PreTrainedTokenizerFast, folder: str) -> None:
        require_own(folder, id="history_dir")
        self.clip, self.tokenizer, self.folder = clip, tokenizer, folder
        self.parts: dict[str, list[torch.Tensor]] = {}
        self.pairs: list[dict] = []
        self.best = -1.0

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, lambda _: self.parts.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._collect)
        engine.add_event_handler(Events.COMPLETED, self._finish)

    def _collect(self, engine: Engine) -> None:
        self.pairs = engine.state.batch  # type: ignore[assignment]
        for item in engine.state.output:  # type: ignore[union-attr]
            for name in ("image_embedding", "text_embedding", "input_ids"):
                self.parts.setdefault(name, []).append(item[name].cpu())

    def _finish(self, engine: Engine) -> None:
        stacked = {name: torch.stack(gather(values)) for name, values in self.parts.items()}
        engine.state.metrics.update(retrieval(*stacked.values()))
        if engine.state.metrics["recall_at_5"] > self.best and idist.get_rank() == 0:
            self.best = engine.state.metrics["recall_at_5"]
            self._save()

    def _save(self) -> None:
        part = folder_beside(self.folder)
        image, ids = (torch.stack([as_tensor(pair[key]) for pair in self.pairs]) for key in ("image", "input_ids"))
        scaled = at_unit_scale(self.clip, image.to(self.clip.device), ids.to(self.clip.device))
        scaled.save_pretrained(part)  # safetensors
        self.tokenizer.save_pretrained(part)
        replace_folder(part, self.folder, id="history_dir")


def publish(*, source: str, folder: str) -> None:
    """Put the CLIP in ``source``, of a finished pre-training, in the place of ``folder``, which never holds another.

    Raises:
        ValueError: ``folder`` holds what no pre-training wrote.
    """
    (Path(source) / MANIFEST).unlink()
    replace_folder(source, folder, id="clip_dir")
