"""What is laid over an image on the page: outlines as paths of SVG, attention and probabilities as pictures."""

from __future__ import annotations

import base64
import io

import numpy as np
from contourpy import contour_generator
from PIL import Image

from common.results.drawing import PREDICTION

HEAT = (255, 70, 40)
STRONGEST = 0.75  # opacity of a heat map
LARGEST = 1600  # pixels of a side of what is sent
FINENESS = 48  # of a heat map's side, so that the coarsest look smooth


def png(picture: Image.Image) -> str:
    """``picture``, of at most :data:`LARGEST` pixels a side, for the ``href`` of an image."""
    small = picture.copy()
    small.thumbnail((LARGEST, LARGEST))
    buffer = io.BytesIO()
    small.save(buffer, "png")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def outline(values: np.ndarray) -> str:
    """Where ``values`` (H, W) cross 0.5, as the ``d`` of a path, in pixels; holes turn the other way."""
    step = -(-max(values.shape) // LARGEST)
    padded = np.pad(values[::step, ::step].astype(float), 1)
    lines = contour_generator(z=padded).lines(0.5)
    moved = ((np.asarray(line) - 0.5) * step for line in lines)
    return " ".join("M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in line) + "Z" for line in moved)


def coloured(opacity: np.ndarray, colour: tuple[int, int, int]) -> str:
    """One ``colour``, as opaque as ``opacity`` (h, w) in [0, 1] says."""
    alpha = Image.fromarray(np.round(255 * np.clip(opacity, 0, 1)).astype(np.uint8))
    picture = Image.new("RGBA", alpha.size, colour)
    picture.putalpha(alpha)
    return png(picture)


def probability(values: np.ndarray) -> str:
    """Probabilities (H, W) in the colour of a prediction."""
    return coloured(values, PREDICTION)


def heat(attention: np.ndarray) -> str | None:
    """A heat map (h, w) in [0, 1]; None where nothing is seen."""
    if attention.max() < 0.05:
        return None
    large = Image.fromarray(attention.astype(np.float32)).resize((FINENESS, FINENESS), Image.Resampling.BICUBIC)
    return coloured(STRONGEST * np.asarray(large), HEAT)
