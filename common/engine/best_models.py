"""The best models of a training besides the very best, each in a folder of its own."""

from __future__ import annotations

import logging
import math
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from common.cli import model_file
from common.cli.atomic import whole_file
from common.engine.tensor_files import save_tensors

logger = logging.getLogger(__name__)
FOLDER = "best"  # beside the weights


class BestModels:
    """Keeps the networks of the ``count`` epochs with the highest metric: ``best/model/epoch_0007/model.pt``.

    Beside each lie ``model.json`` and the files that belong to the network, such as its tokenizer, so that an
    evaluation takes its folder as ``--ckpt_dir``. What is fitted as a training ends (familiarity, calibration) belongs
    to the very best network alone, and another network, such as d2rnet's detector, is not copied.

    Args:
        weights: file of the very best network, from whose folder those files come.
        count: 1: nothing is kept besides that file.
    """

    def __init__(self, weights: str | Path, *, count: int) -> None:
        self.weights, self.count = Path(weights), count
        self.folder = self.weights.parent / FOLDER / self.weights.stem
        self.kept: list[tuple[float, int]] = []  # metric and epoch

    def offer(self, network: torch.nn.Module, settings: Mapping[str, Any], *, metric: float, epoch: int) -> None:
        """Keep ``network`` if it is among the best, of equals the earlier. :meth:`prune` removes the worst."""
        if self.count == 1 or math.isnan(metric):
            return
        ranked = sorted([*self.kept, (metric, epoch)], key=lambda entry: (-entry[0], entry[1]))
        self.kept = ranked[: self.count]
        if (metric, epoch) in self.kept:
            self._write(network, settings, self._folder(epoch))

    def prune(self) -> None:
        """Remove those that others took the place of; after the state was saved, which must not name what is gone."""
        kept = {self._folder(epoch) for _, epoch in self.kept}
        for folder in self.folder.glob("epoch_*") if self.count > 1 else ():
            if folder not in kept:
                shutil.rmtree(folder, ignore_errors=True)

    def _folder(self, epoch: int) -> Path:
        return self.folder / f"epoch_{epoch:04d}"

    def _write(self, network: torch.nn.Module, settings: Mapping[str, Any], folder: Path) -> None:
        shutil.rmtree(folder, ignore_errors=True)  # of a run that was killed here, which saved no state of it
        files = {}
        for name in model_file.listed(model_file.path_of(self.weights)):
            if name != self.weights.name and (self.weights.parent / name).is_file():
                files[name] = folder / name
                files[name].parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(self.weights.parent / name, files[name])
        with whole_file(folder / self.weights.name) as part:
            save_tensors(network.state_dict(), part)
            model_file.write(folder / self.weights.name, settings, files={**files, self.weights.name: part})

    def files(self) -> Sequence[str]:
        """Names, from the folder of the weights, of what lies there of this or an earlier training."""
        found = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return [os.fspath(path.relative_to(self.weights.parent)) for path in found]

    def clear(self) -> None:
        """Remove what an earlier training left there."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def state_dict(self) -> dict[str, Any]:
        return {"kept": [list(entry) for entry in self.kept]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        told = [(float(metric), int(epoch)) for metric, epoch in state["kept"]]
        self.kept = [entry for entry in told if (self._folder(entry[1]) / self.weights.name).is_file()]
        if len(self.kept) < len(told):
            logger.warning("%s: %d of %d models are gone", self.folder, len(told) - len(self.kept), len(told))
