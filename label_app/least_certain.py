"""Which image to label next: the one whose mask a segmenter is least confident of."""

from __future__ import annotations

import logging
import random
import time
from typing import Any

from monailabel.interfaces.tasks.strategy import Strategy

from .infer_task import picture_of
from .pictures import check_size
from .served_bundle import ServedBundle

logger = logging.getLogger(__name__)
MOST = 16  # images that the network is asked about for one choice
SECONDS = 60.0  # for which an image that was given to somebody is not given to another


class LeastCertain(Strategy):
    """Chooses the unlabelled image whose mask by ``bundle`` has the lowest confidence; one without a mask has none.

    Of a large archive :data:`MOST` further images are looked at with each choice; what is known of the others is kept
    until the weights change. An image that can't be read is left out.
    """

    def __init__(self, bundle: ServedBundle) -> None:
        super().__init__(f"the image whose mask {bundle.name} is least confident of")
        self.bundle = bundle
        self.confidences: dict[str, float] = {}
        self.weights: float | None = None

    def __call__(self, request: dict[str, Any], datastore: Any) -> dict[str, Any] | None:
        """``id`` of the image and ``weight``, 1 less its confidence; None where every image has a label."""
        strategy = str(request["strategy"])
        unlabelled = list(datastore.get_unlabeled_images(request.get("label_tag"), request.get("labels")))
        self._look_at(unlabelled, datastore)
        known = [image for image in unlabelled if image in self.confidences]
        if not known:
            return None
        fresh = [image for image in known if not _given_just_now(datastore, image, strategy)]
        image = min(fresh or known, key=self.confidences.__getitem__)
        return {"id": image, "weight": round(1 - self.confidences[image], 4)}

    def _look_at(self, images: list[str], datastore: Any) -> None:
        changed = self.bundle.weights.stat().st_mtime
        if changed != self.weights:
            self.confidences, self.weights = {}, changed
        further = [image for image in images if image not in self.confidences]
        for image in random.sample(further, min(MOST, len(further))):
            try:
                picture = picture_of(str(datastore.get_image_uri(image)))
                check_size(picture)
                entry, _ = self.bundle(picture, "" if self.bundle.text == "report" else None)
            except Exception as error:
                logger.warning("%s: left out of the choice (%s)", image, error)
                continue
            self.confidences[image] = float(entry.get("confidence") or 0.0)


def _given_just_now(datastore: Any, image: str, strategy: str) -> bool:
    given = datastore.get_image_info(image).get("strategy", {}).get(strategy, {}).get("ts", 0)
    return time.time() - given < SECONDS
