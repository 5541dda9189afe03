"""The range of grey values that is an image's content: what else a file holds must not stretch it."""

from __future__ import annotations

import numpy as np

OUTLIERS, FAR = (0.1, 99.9), 4.0  # percentiles of what an image is, and how many times wider a range is not its own


def content_range(pixels: np.ndarray) -> tuple[float, float]:
    """Lowest and highest of the finite ``pixels``; a few values far outside the others (markers, padding) are cut.

    Raises:
        ValueError: no pixel is a finite number.
    """
    finite = pixels[np.isfinite(pixels)]
    if finite.size == 0:
        raise ValueError("no pixel is a finite number")
    low, high = float(finite.min()), float(finite.max())
    inner = np.percentile(finite, OUTLIERS)
    if high - low > FAR * max(inner[1] - inner[0], 1e-12) and inner[1] > inner[0]:
        low, high = float(inner[0]), float(inner[1])
    return low, high
