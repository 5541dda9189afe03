"""A branch on what the nodule's mask tells apart: the trunk's features inside it, and around it.

Not in the paper. On some hundred nodules a linear classifier of these frozen features is better than the two published
branches, whose averages over a crop mix the nodule with the tissue around it (figures: the card).
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.data import DataLoader, Dataset
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedGroupKFold
from sklearn.preprocessing import StandardScaler

from .calibration import FitCalibration
from .network import HFCN

logger = logging.getLogger(__name__)
FOLDS = 5  # of the cross-fitted probabilities
DECIDES = 0.8  # least ``mask_weight`` at which what the other branches say hardly counts, though they know the images


class Pooled(NamedTuple):
    """What the branch reads of the images with a mask, and whose they are."""

    features: np.ndarray  # (N, 2, F), of each image as it is and mirrored
    labels: np.ndarray  # (N,)
    patients: np.ndarray  # (N,)


class FitMaskBranch:
    """Handler of a trainer: fit the mask branch of ``network`` before the first epoch, after weights were loaded.

    Its trunk is frozen, so that the fit is one convex problem with one solution: logistic regression on standardised
    features, both classes with one share of the loss. Images without a mask are left out; where only one class has
    masks the branch stays as it is, which is off unless it was fitted before.

    Args:
        dataset: cases with ``image`` (2, H, W), the second channel the mask, and ``malignancy``.
        calibration: of the training, which these images help to fit, as :meth:`cross_fitted` has them.
        strength: inverse of the ridge penalty, scikit-learn's ``C``.
    """

    def __init__(
        self,
        *,
        network: HFCN,
        dataset: Dataset,
        calibration: FitCalibration | None = None,
        strength: float = 0.01,
        batch_size: int = 16,
    ) -> None:
        self.network, self.dataset, self.strength, self.batch_size = network, dataset, strength, batch_size
        if calibration is not None:
            calibration.cross_fitted = self.cross_fitted

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._fit)

    def _fit(self, _: Engine) -> None:
        branch = self.network.mask_branch
        if branch is None:
            return
        fitted: torch.Tensor = branch.fitted  # type: ignore[assignment]
        pooled = self._pooled()
        if len(set(pooled.labels.tolist())) < 2:
            logger.warning(
                "mask branch: not fitted; it needs masks of both classes, %d images have one", len(pooled.labels)
            )
            return
        weight, bias = self._classifier(pooled.features, pooled.labels)
        with torch.no_grad():
            branch.linear.weight.copy_(torch.from_numpy(weight)[None])
            branch.linear.bias.fill_(bias)
            fitted.fill_(1)
        logger.info("mask branch: fitted to %d images with a mask", len(pooled.labels))

    def cross_fitted(self, network: torch.nn.Module) -> tuple[np.ndarray, np.ndarray]:
        """Label and fused probability (N,) of the images, by mask branches that saw no image of their patients.

        The published branches are those of ``network``, and know these images: hence nothing where the mask branch has
        a share below :data:`DECIDES` in the fusion, nor where there are too few patients of a class to part them.
        """
        assert isinstance(network, HFCN)
        if network.mask_branch is None or network.mask_weight < DECIDES:
            return np.zeros(0), np.zeros(0)
        pooled = self._pooled()
        fewest = min((len(set(pooled.patients[pooled.labels == label])) for label in (0, 1)), default=0)
        if not bool(network.mask_branch.fitted) or fewest < FOLDS:
            return np.zeros(0), np.zeros(0)
        odds = np.zeros(len(pooled.labels))
        parts = StratifiedGroupKFold(FOLDS).split(pooled.labels, pooled.labels, pooled.patients)
        for others, part in parts:
            weight, bias = self._classifier(pooled.features[others], pooled.labels[others])
            odds[part] = pooled.features[part, 0] @ weight + bias
        return pooled.labels, self._fused(network, torch.from_numpy(odds).float())

    def _classifier(self, features: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, float]:
        """Weight (F,) and bias of the logit, fitted to both views of ``features`` (n, 2, F)."""
        views, labels = features.reshape(-1, features.shape[2]), labels.repeat(features.shape[1])
        scaler = StandardScaler().fit(views)
        classifier = LogisticRegression(C=self.strength, class_weight="balanced", max_iter=3000)
        classifier.fit(scaler.transform(views), labels)
        weight = classifier.coef_[0] / scaler.scale_
        return weight, classifier.intercept_[0] - float(weight @ scaler.mean_)

    @torch.no_grad()
    def _pooled(self) -> Pooled:
        parts = []
        for image, batch in self._batches():
            views = [self.network.mask_features(view) for view in (image, image.flip(3))]
            known = views[0][1].cpu().numpy()
            features = torch.stack([pooled for pooled, _ in views], dim=1).float().cpu().numpy()
            parts.append(Pooled(features[known], batch["malignancy"].numpy()[known], np.array(batch["case"])[known]))
        return Pooled(*(np.concatenate(values) for values in zip(*parts, strict=True)))

    @torch.no_grad()
    def _fused(self, network: HFCN, odds: torch.Tensor) -> np.ndarray:
        """Probabilities (N,) of ``network`` where its mask branch says ``odds`` (N,), logits of the images with one."""
        prob, done = [], 0
        for image, _ in self._batches():
            branches = network.branches(image)
            known = branches.asks_mask
            logit = odds[done : done + int(known.sum())].to(image.device)[:, None]
            done += len(logit)
            mask = branches.mask.clone()
            mask[known] = torch.nn.functional.logsigmoid(torch.cat([-logit, logit], dim=1))
            prob.append(network.fuse(branches._replace(mask=mask))[known, 1].float().exp().cpu().numpy())
        return np.concatenate(prob).astype(np.float64)

    def _batches(self) -> Iterator[tuple[torch.Tensor, dict]]:
        """Images (B, 2, H, W) on the network's device, and the batches that they are of."""
        device = next(self.network.parameters()).device
        for batch in DataLoader(self.dataset, batch_size=self.batch_size):
            yield batch["image"].as_tensor().to(device), batch
