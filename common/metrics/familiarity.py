"""How like an image is to those that a network was trained on, by its own features of them.

One Gaussian of the training images' features, as Lee et al. (NeurIPS 2018) have it for each class, with the covariance
shrunk (Ledoit and Wolf 2004); what is far from its middle is rare. How far images of the same kind are that were held
out of the training turns a distance into a share.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from sklearn.covariance import LedoitWolf

UNFAMILIAR = 0.05  # share of held-out images of the training's kind that are less familiar
UNLIKE = "this image is unlike the training images"
FEWEST = 10  # images that a Gaussian is fitted to
FEWEST_HELD_OUT = 20  # cases, of which one is UNFAMILIAR of all
QUANTILES = np.linspace(0, 1, 101)


class Familiarity:
    """Shares in (0, 1], by features; see :meth:`fit`.

    Args:
        mean: of the training images' features, (D,).
        whitening: (D, D); a difference from the mean times it is a vector whose length is the distance.
        distances: of held-out cases, at :data:`QUANTILES`, ascending.
        count: how many those are.
    """

    def __init__(self, *, mean: np.ndarray, whitening: np.ndarray, distances: np.ndarray, count: int) -> None:
        self.mean, self.whitening, self.distances, self.count = mean, whitening, distances, count

    @classmethod
    def fit(cls, training: np.ndarray, held_out: Sequence[np.ndarray]) -> Familiarity:
        """Fit the Gaussian to ``training`` (N, D), and the shares to ``held_out``, each case's views (V, D).

        Raises:
            ValueError: fewer than :data:`FEWEST` training images, or than :data:`FEWEST_HELD_OUT` cases held out, or
                features that are no numbers.
            numpy.linalg.LinAlgError: features that do not vary.
        """
        if len(training) < FEWEST or len(held_out) < FEWEST_HELD_OUT:
            raise ValueError(
                f"{len(training)} training images and {len(held_out)} cases held out; it needs {FEWEST} and "
                f"{FEWEST_HELD_OUT} at least"
            )
        mean, std = training.mean(0), np.maximum(training.std(0), 1e-6)
        precision = LedoitWolf(assume_centered=True).fit((training - mean) / std).precision_
        known = cls(mean=mean, whitening=np.linalg.cholesky(precision) / std[:, None], distances=np.ones(1), count=1)
        values = [known.distance(views) for views in held_out]
        known.distances, known.count = np.quantile(values, QUANTILES), len(values)
        return known

    def distance(self, views: np.ndarray) -> float:
        """Mahalanobis distance of the least familiar of a case's ``views`` (V, D)."""
        return float(np.linalg.norm((views - self.mean) @ self.whitening, axis=1).max())

    def __call__(self, views: np.ndarray) -> float:
        """Share of cases like the training's that are as far as a case with these ``views`` (V, D), or further.

        Beyond the furthest of the held-out ones it falls with the distance.
        """
        distance, last = self.distance(views), float(self.distances[-1])
        nearer = float(np.interp(distance, self.distances, QUANTILES[-len(self.distances) :]))
        share = (1 + self.count * (1 - nearer)) / (1 + self.count)
        return share if distance <= last else share * last / distance

    def save(self, path: str | Path, *, weights: str) -> None:
        """Write the file ``path``; ``weights``: digest of the network's, to which it belongs."""
        parts = {"mean": self.mean, "whitening": self.whitening, "distances": self.distances}
        tensors = {name: torch.from_numpy(np.ascontiguousarray(part, dtype=np.float32)) for name, part in parts.items()}
        Path(path).write_bytes(save(tensors, metadata={"weights": weights, "count": str(self.count)}))

    @classmethod
    def load(cls, path: str | Path, *, weights: str) -> Familiarity | None:
        """What the file ``path`` holds; None where it belongs to another network.

        Raises:
            ValueError: it is damaged.
        """
        try:
            with safe_open(path, framework="np") as file:
                told = file.metadata() or {}
                parts = {name: file.get_tensor(name).astype(np.float64) for name in ("mean", "whitening", "distances")}
            if told.get("weights") != weights:
                return None
            return cls(**parts, count=int(told["count"]))
        except (SafetensorError, KeyError, ValueError) as error:
            raise ValueError(f"familiarity: {str(path)!r} is damaged ({error}); fit it anew, or remove it") from error
