"""A branch on what the nodule's mask tells apart: the trunk's features inside it, and around it.

Not in the paper. On some hundred nodules a linear classifier of these frozen features is better than the two published
branches, whose averages over a crop mix the nodule with the tissue around it (figures: the card).
"""

from __future__ import annotations

import logging

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data import DataLoader, Dataset
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from .network import HFCN

logger = logging.getLogger(__name__)


class FitMaskBranch:
    """Handler of a trainer: fit the mask branch of ``network`` before the first epoch, after weights were loaded.

    Its trunk is frozen, so that the fit is one convex problem with one solution: logistic regression on standardised
    features, both classes with one share of the loss. Images without a mask are left out; where only one class has
    masks the branch stays as it is, which is off unless it was fitted before.

    Args:
        dataset: cases with ``image`` (2, H, W), the second channel the mask, and ``malignancy``.
        strength: inverse of the ridge penalty, scikit-learn's ``C``.
    """

    def __init__(self, *, network: HFCN, dataset: Dataset, strength: float = 0.01, batch_size: int = 16) -> None:
        self.network, self.dataset, self.strength, self.batch_size = network, dataset, strength, batch_size

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._fit)

    def _fit(self, _: Engine) -> None:
        branch = self.network.mask_branch
        if branch is None:
            return
        fitted: torch.Tensor = branch.fitted  # type: ignore[assignment]
        features, labels = self._features()
        if len(set(labels.tolist())) < 2:
            logger.warning("mask branch: not fitted; it needs masks of both classes, %d images have one", len(labels))
            return
        scaler = StandardScaler().fit(features)
        classifier = LogisticRegression(C=self.strength, class_weight="balanced", max_iter=3000)
        classifier.fit(scaler.transform(features), labels)
        weight = classifier.coef_[0] / scaler.scale_
        bias = classifier.intercept_[0] - float(weight @ scaler.mean_)
        with torch.no_grad():
            branch.linear.weight.copy_(torch.from_numpy(weight)[None])
            branch.linear.bias.fill_(bias)
            fitted.fill_(1)
        logger.info("mask branch: fitted to %d images with a mask", len(labels))

    @torch.no_grad()
    def _features(self) -> tuple[np.ndarray, np.ndarray]:
        """Features (N, F) of the images with a mask, each as it is and mirrored, and their labels (N,)."""
        device = next(self.network.parameters()).device
        features, labels = [], []
        for batch in DataLoader(self.dataset, batch_size=self.batch_size):
            image = batch["image"].as_tensor().to(device)
            for view in (image, image.flip(3)):
                pooled, known = self.network.mask_features(view)
                features.append(pooled[known].float().cpu().numpy())
                labels.append(batch["malignancy"].to(device)[known].cpu().numpy())
        return np.concatenate(features), np.concatenate(labels)
