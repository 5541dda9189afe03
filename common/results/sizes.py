"""How well a segmentation measures: each nodule's long axis, predicted and true."""

from __future__ import annotations

import logging
import math
from typing import Any

import numpy as np
import torch
from ignite.engine import Engine, Events
from monai.utils import ImageMetaKey

from common.engine.distributed import gather
from common.images.dicom import pixel_spacing
from common.results.findings import centre_of, mask_size

logger = logging.getLogger(__name__)
PREDICTED, TRUE = "long_axis_{}", "long_axis_{}_true"  # columns, and the unit


class LongAxes:
    """Handler: the long axis of the largest piece of ``pred`` and of ``label`` of each case, of binary masks.

    In millimetres where every image tells the size of its pixels, else in pixels of the image's file. Columns
    ``long_axis_UNIT`` and ``long_axis_UNIT_true`` of ``per_case.csv``; the metrics ``long_axis_bias_UNIT``, the mean of
    predicted minus true, and ``long_axis_limits_UNIT``, 1.96 standard deviations of it (Bland and Altman 1986), over
    the cases in which both are there. It stands before :class:`common.results.evaluation.ResultFiles`.

    Args:
        rows_first: masks are (1, H, W), else MONAI's (1, W, H).
    """

    def __init__(self, *, rows_first: bool = False) -> None:
        self.rows_first = rows_first
        self.axes: list[tuple[float, ...]] = []

    def attach(self, engine: Engine) -> None:
        engine.add_event_handler(Events.STARTED, self._forget)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._measure)
        engine.add_event_handler(Events.COMPLETED, self._tell)

    def _forget(self, _: Engine) -> None:
        self.axes = []

    def _measure(self, engine: Engine) -> None:
        cases: list[dict[str, Any]] = engine.state.output  # type: ignore[assignment]
        for case in cases:
            masks = [np.asarray(case[name][0].cpu() > 0) for name in ("pred", "label")]
            turned = masks if self.rows_first else [mask.T for mask in masks]
            self.axes.append(axes_of(case["image"].meta, *turned))

    def _tell(self, engine: Engine) -> None:
        axes = np.array(gather(self.axes)).reshape(-1, 4)
        unit, (predicted, true) = ("mm", axes[:, 2:].T) if np.isfinite(axes[:, 2:]).all() else ("px", axes[:, :2].T)
        both = (predicted > 0) & (true > 0)
        gains = (predicted - true)[both]
        state: Any = engine.state
        for name, values in ((PREDICTED, predicted), (TRUE, true)):
            state.metric_details[name.format(unit)] = torch.tensor(values)
        if len(gains) > 1:
            state.metrics[f"long_axis_bias_{unit}"] = float(gains.mean())
            state.metrics[f"long_axis_limits_{unit}"] = float(1.96 * gains.std(ddof=1))


def axes_of(meta: dict[str, Any], prediction: np.ndarray, truth: np.ndarray) -> tuple[float, ...]:
    """Long axes in pixels of the file, predicted and true, and both in mm, NaN where the file tells no pixel's size.

    Args:
        meta: of the image: its file, and its width and height there.
        prediction, truth: boolean (H, W), of the network's size.
    """
    sizes = pixel_sizes(meta, truth)
    axes: list[float] = []
    for size in (sizes["px"], sizes["mm"]):
        axes += [math.nan if size is None else mask_size(mask, size)["long_axis_mm"] for mask in (prediction, truth)]
    return tuple(axes)


def pixel_sizes(meta: dict[str, Any], truth: np.ndarray) -> dict[str, tuple[float, float] | None]:
    """Height and width of a pixel of ``truth`` (H, W), in pixels of the image's file, ``px``, and in ``mm``; None there
    where the file does not tell.

    Args:
        meta: of the image: its file, and its width and height there.
        truth: boolean, of the network's size; where its nodule lies tells which of an ultrasound's regions counts.
    """
    width, height = (int(side) for side in meta["spatial_shape"][:2])
    scale = (height / truth.shape[0], width / truth.shape[1])
    middle = centre_of(truth)
    file = str(meta[ImageMetaKey.FILENAME_OR_OBJ])
    spacing = pixel_spacing(file, middle and (middle[0] * scale[1], middle[1] * scale[0]))
    return {"px": scale, "mm": None if spacing is None else (scale[0] * spacing[0], scale[1] * spacing[1])}
