"""Familiarity of each image in training and inference: fitted as a training ends, told with each prediction.

A network takes part that has ``image_features()``: the module whose output it is computed from (a map (N, C, h, w),
tokens (N, T, C), or a list of these, of which the last but one), and a function that runs it on a batch's images.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite import distributed as idist
from ignite.engine import Engine, Events
from monai.data import DataLoader

from common.cli.atomic import whole_file
from common.cli.trained import digest_of
from common.engine.beside_weights import keep_fitted, require_held_out
from common.engine.caching import cached
from common.metrics.familiarity import UNFAMILIAR, UNLIKE, Familiarity

logger = logging.getLogger(__name__)
MOST = 1000  # cases that are looked at of a split
ANEW = "--run_id fit_familiarity of train.json with evaluate.json merged over it, --split validation"


def file_of(weights: str | Path) -> Path:
    """Where the familiarity of the network ``weights`` lies."""
    return Path(weights).with_name("familiarity.safetensors")


class PooledFeatures:
    """Means over positions, (N, D), of what ``network.image_features()`` names, of the first images of a batch."""

    def __init__(self, network: Any) -> None:
        module, self.encode = network.image_features()
        self.rows: torch.Tensor | None = None
        module.register_forward_hook(self._keep)

    def forget(self) -> None:
        """Take the next images that pass."""
        self.rows = None

    def _keep(self, module: torch.nn.Module, inputs: Any, output: Any) -> None:
        if self.rows is None:
            features = output[-2] if isinstance(output, list | tuple) else output
            self.rows = features.detach().float().mean((2, 3) if features.ndim == 4 else 1).cpu()

    def of_cases(self, batch: Sequence[Mapping[str, Any]]) -> list[np.ndarray]:
        """Features (V, D) of the views that each case of ``batch`` has."""
        assert self.rows is not None
        views = batch[0]["image"].shape[0] if batch[0]["image"].ndim == 4 else 1
        rows = self.rows[: len(batch) * views].unflatten(0, (len(batch), views)).numpy().astype(np.float64)
        masks = [np.asarray(case.get("view_mask", torch.ones(views)), dtype=bool) for case in batch]
        return [case[mask] for case, mask in zip(rows, masks, strict=True)]


class FitFamiliarity:
    """Handler of a trainer: as the training ends, fit the familiarity of the best network and write it beside.

    Args:
        network: with ``image_features()``.
        dataset: of the training, with ``data`` and ``skip_damaged``.
        evaluator: its cases were held out; its transforms make the images as inference sees them.
        weights: file of the best network.
    """

    def __init__(self, *, network: torch.nn.Module, dataset: Any, evaluator: Any, weights: str) -> None:
        self.network, self.dataset, self.evaluator, self.weights = network, dataset, evaluator, weights

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.COMPLETED, lambda _: self.fit())

    def fit(self, split: str = "validation") -> None:
        """Look at :data:`MOST` images of each split at most; ``split`` is the evaluator's.

        Raises:
            ValueError: the split is another than validation.
        """
        require_held_out(split)
        if idist.get_rank() > 0 or not Path(self.weights).is_file():
            return
        network = copy.deepcopy(self.network).eval()
        network.load_state_dict(torch.load(self.weights, map_location="cpu", weights_only=True))
        held_out = self.evaluator.data_loader.dataset
        features = PooledFeatures(network)
        training = self._features(features, self.dataset.data, held_out.transform)
        held_out_features = self._features(features, held_out.data, held_out.transform)
        try:
            known = Familiarity.fit(np.concatenate(training), held_out_features)
        except (ValueError, np.linalg.LinAlgError) as error:  # the training is done, whatever its features are
            logger.warning("familiarity: not fitted (%s)", error)
            return
        keep_fitted(file_of(self.weights), self.weights)
        with whole_file(file_of(self.weights)) as part:
            known.save(part, weights=digest_of(Path(self.weights)))
        logger.info("familiarity: fitted to %d training cases and %d held out", len(training), len(held_out_features))

    @torch.no_grad()
    def _features(self, features: PooledFeatures, cases: Sequence[Any], transform: Any) -> list[np.ndarray]:
        """Features of each of ``cases``, evenly spaced ones where there are more than :data:`MOST`."""
        chosen = sorted(set(np.linspace(0, len(cases) - 1, min(MOST, len(cases))).round().astype(int).tolist()))
        skip = getattr(self.dataset, "skip_damaged", False)
        dataset = cached(data=[cases[index] for index in chosen], transform=transform, cache="none", skip_damaged=skip)
        device = next(self.network.parameters()).device
        found = []
        for batch in DataLoader(dataset, batch_size=8):
            features.forget()
            features.encode(batch["image"].as_subclass(torch.Tensor).to(device))
            masks = batch.get("view_mask")
            images = [{"image": image} for image in batch["image"]]
            found += features.of_cases(
                images if masks is None else [{**i, "view_mask": m} for i, m in zip(images, masks, strict=True)]
            )
        return found


class TellFamiliarity:
    """Familiarity of each case of an evaluator's batch, by the file beside ``weights``; None where there is none.

    Args:
        network: that the evaluator runs, with ``image_features()``.
        refuse: answer unfamiliar images with :data:`UNLIKE` alone.

    Raises:
        FileNotFoundError: ``refuse``, and there is no file.
    """

    def __init__(self, *, network: Any, weights: str, refuse: bool = False) -> None:
        self.weights, self.refuse = weights, refuse
        self.features, self.known = PooledFeatures(network), self._read()
        if refuse and self.known is None:
            raise FileNotFoundError(
                f"refuse_unfamiliar: no file {str(file_of(weights))!r} that belongs to these weights tells what the "
                f"training images were like; train anew, or make it: {ANEW}"
            )

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.ITERATION_STARTED, lambda _: self.features.forget())

    def _read(self) -> Familiarity | None:
        path = file_of(self.weights)
        if not path.is_file() or not Path(self.weights).is_file():
            return None
        known = Familiarity.load(path, weights=digest_of(Path(self.weights)))
        if known is None:
            logger.warning("%s belongs to other weights and is not used; make it anew: %s", path, ANEW)
        return known

    def of_batch(self, batch: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """``familiarity`` of each case for its entry, and below :data:`UNFAMILIAR` ``warning``; empty if unknown."""
        if self.known is None or self.features.rows is None:
            return [{} for _ in batch]
        shares = [self.known(views) for views in self.features.of_cases(batch)]
        return [
            {"familiarity": round(share, 4), **({"warning": UNLIKE} if share < UNFAMILIAR else {})} for share in shares
        ]
