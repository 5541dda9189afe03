"""How far predicted borders lie from the true ones, as lengths.

The network sees images stretched to a square, in which a pixel is no length: the same error costs more along one axis
than along the other. Here distances are those of the image's file.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events

from common.engine.distributed import gather
from common.metrics.segmentation import hausdorff95, surface_dice
from common.results.sizes import pixel_sizes

TOLERANCES = {"mm": 1.0, "px": 5.0}  # within which a border is where it should be: some two pixels of a network


class BorderDistances:
    """Handler: distances of the borders of ``pred`` from those of ``label`` of each case, of binary masks.

    In millimetres where every image tells the size of its pixels, else in pixels of the image's file: ``hd95_UNIT``
    (:func:`common.metrics.segmentation.hausdorff95`) and ``nsd_UNIT`` at :data:`TOLERANCES`, columns of
    ``per_case.csv`` and their means over the cases. It stands before :class:`common.results.evaluation.ResultFiles`.

    Args:
        rows_first: masks are (1, H, W), else MONAI's (1, W, H).
    """

    def __init__(self, *, rows_first: bool = False) -> None:
        self.rows_first = rows_first
        self.distances: dict[str, list[tuple[float, float]]] = {}

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._forget)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._measure)
        engine.add_event_handler(Events.COMPLETED, self._tell)

    def _forget(self, _: Engine) -> None:
        self.distances = {unit: [] for unit in TOLERANCES}

    def _measure(self, engine: Engine) -> None:
        cases: list[dict[str, Any]] = engine.state.output  # type: ignore[assignment]
        for case in cases:
            masks = [(case[name][0].cpu() > 0) for name in ("pred", "label")]
            prediction, truth = masks if self.rows_first else [mask.T for mask in masks]
            for unit, size in pixel_sizes(case["image"].meta, np.asarray(truth)).items():
                self.distances[unit].append(distances_of(prediction, truth, size, TOLERANCES[unit]))

    def _tell(self, engine: Engine) -> None:
        told = {unit: np.array(gather(values)).reshape(-1, 2) for unit, values in self.distances.items()}
        unit = "mm" if np.isfinite(told["mm"]).all() else "px"
        state: Any = engine.state
        for name, values in zip((f"hd95_{unit}", f"nsd_{unit}"), told[unit].T, strict=True):
            state.metric_details[name] = torch.tensor(values)
            if len(values):
                state.metrics[name] = float(values.mean())


def distances_of(
    prediction: torch.Tensor, truth: torch.Tensor, size: tuple[float, float] | None, tolerance: float
) -> tuple[float, float]:
    """HD95 and the normalised surface distance at ``tolerance`` of boolean masks (H, W); NaN without a ``size``.

    Args:
        size: height and width of a pixel of the masks, in the unit of the distances.
    """
    if size is None:
        return math.nan, math.nan
    masks = [mask[None, None].float() for mask in (prediction, truth)]  # (1, 1, H, W)
    return (
        float(hausdorff95(masks[0], masks[1], spacing=size)),
        float(surface_dice(masks[0], masks[1], tolerance, spacing=size)),
    )
