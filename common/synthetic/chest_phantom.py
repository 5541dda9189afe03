"""Draws frontal chest X-rays: attenuation of simple shapes along the beam, with lesions where they are asked for.

Grey grows with attenuation, as on a viewing box: bone is white, air is black. The patient's right is the image's left.
Places and sizes are in fractions of the image.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

LUNG_X = {"right": 0.31, "left": 0.69}  # of the lungs' centres
ZONE_Y = {"upper": 0.32, "middle": 0.48, "lower": 0.64}
LUNG_RADII = (0.155, 0.31)
HEART_RADII = (0.135, 0.125)
RADII = {"Calcification": (0.022, 0.035), "Consolidation": (0.08, 0.115), "Lung cavity": (0.05, 0.075)}


@dataclass(frozen=True)
class Lesion:
    """A finding: one of VinDr-CXR's local labels, its side and zone (empty: none), its box (x, y, w, h)."""

    name: str
    side: str
    zone: str
    box: tuple[float, float, float, float]


def ellipse(
    rows: np.ndarray, columns: np.ndarray, centre: tuple[float, float], radii: tuple[float, float]
) -> np.ndarray:
    """1 at the centre (x, y), 0 on the border, negative outside."""
    return 1 - np.hypot((columns - centre[0]) / radii[0], (rows - centre[1]) / radii[1])


def place(name: str, side: str, zone: str, rng: np.random.Generator) -> Lesion:
    """A lesion of that name with a box; ``side`` and ``zone`` are ignored where the name has its own place."""
    sign = -1 if side == "right" else 1
    if name == "Cardiomegaly":
        width, height = HEART_RADII[0] * rng.uniform(1.5, 1.75), HEART_RADII[1] * rng.uniform(1.05, 1.2)
        return Lesion(name, "", "", (0.54 - width, 0.66 - height, 2 * width, 2 * height))
    if name == "Aortic enlargement":
        radius = rng.uniform(0.065, 0.085)
        return Lesion(name, "", "", (0.575 - radius, 0.35 - radius, 2 * radius, 2 * radius))
    if name == "Pleural effusion":
        height = rng.uniform(0.13, 0.24)
        return Lesion(name, side, "", (LUNG_X[side] - LUNG_RADII[0], 0.79 - height, 2 * LUNG_RADII[0], height))
    if name == "Pneumothorax":
        height = rng.uniform(0.18, 0.28)
        return Lesion(name, side, "", (LUNG_X[side] - 0.14, 0.20, 0.28, height))
    size = rng.uniform(*RADII.get(name, (0.035, 0.06)))
    x = LUNG_X[side] + sign * rng.uniform(-0.02, 0.05)
    y = ZONE_Y[zone] + rng.uniform(-0.03, 0.03)
    return Lesion(name, side, zone, (x - size, y - size, 2 * size, 2 * size))


def draw_chest(
    lesions: list[Lesion], size: int, rng: np.random.Generator
) -> tuple[np.ndarray, list[tuple[float, float, float, float]]]:
    """Image, uint8 (size, size), of a chest with ``lesions``, and their boxes (x, y, w, h) in pixels."""
    down, right, zoom = rng.uniform(-0.03, 0.03), rng.uniform(-0.03, 0.03), rng.uniform(0.94, 1.06)
    rows, columns = (np.mgrid[:size, :size] + 0.5) / size
    rows, columns = 0.5 + (rows - 0.5 - down) / zoom, 0.5 + (columns - 0.5 - right) / zoom
    body, lungs = _body(rows, columns, rng)
    level = body + _mediastinum(rows, columns, {lesion.name: lesion for lesion in lesions})
    level += 0.10 * _ribs(rows, columns, rng) * (body > 0)
    texture = np.random.default_rng(int(rng.integers(2**32)))  # its own: the rest does not depend on the lesions
    for lesion in lesions:
        level += _lesion(lesion, rows, columns, lungs, texture)
    level = gaussian_filter(level, size / 200) + 0.02 * gaussian_filter(rng.normal(size=level.shape), 0.7)
    grey = 255 * np.clip(level * rng.uniform(0.92, 1.08) + rng.uniform(-0.03, 0.03), 0, 1)
    scale = zoom * size
    boxes = [
        (size * (0.5 + right) + (x - 0.5) * scale, size * (0.5 + down) + (y - 0.5) * scale, w * scale, h * scale)
        for x, y, w, h in (lesion.box for lesion in lesions)
    ]
    return (grey.astype(np.uint8) >> 1) << 1, boxes


def _body(rows: np.ndarray, columns: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Attenuation of trunk and lungs, and how far inside a lung each place is (negative outside)."""
    trunk = ellipse(rows, columns, (0.5, 0.72), (0.47, 0.68)) > 0
    neck = (np.abs(columns - 0.5) < 0.09) & (rows < 0.2)
    level = 0.55 * (trunk | neck)
    inside = [
        ellipse(rows, columns, (x, 0.5 + rng.uniform(-0.01, 0.01)), (LUNG_RADII[0], LUNG_RADII[1]))
        for x in LUNG_X.values()
    ]
    lungs = np.minimum(np.maximum(*inside), (0.82 - rows) * 3 + 0.1 * np.cos((columns - 0.5) * 12))
    vessels = gaussian_filter(rng.normal(size=rows.shape), len(rows) / 60) * len(rows) / 60 * 0.06
    air = np.clip(lungs * 8, 0, 1)
    return level - air * (0.40 - vessels), lungs


def _mediastinum(rows: np.ndarray, columns: np.ndarray, lesions: dict[str, Lesion]) -> np.ndarray:
    heart = lesions.get("Cardiomegaly")
    radii = HEART_RADII if heart is None else (heart.box[2] / 2, heart.box[3] / 2)
    knob = lesions.get("Aortic enlargement")
    radius = 0.04 if knob is None else knob.box[2] / 2
    level = 0.30 * np.clip(ellipse(rows, columns, (0.54, 0.66), radii) * 6, 0, 1)
    level += 0.20 * np.clip(ellipse(rows, columns, (0.575, 0.35), (radius, radius)) * 4, 0, 1)
    spine = np.exp(-(((columns - 0.5) / 0.045) ** 2))
    return level + 0.22 * spine


def _ribs(rows: np.ndarray, columns: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    shift = rng.uniform(0, 0.08)
    arcs = np.cos((rows - 0.9 * (columns - 0.5) ** 2 + shift) * 2 * np.pi / 0.085)
    clavicle = np.exp(-(((rows - 0.19 - 0.25 * np.abs(columns - 0.5)) / 0.012) ** 2)) * (np.abs(columns - 0.5) < 0.38)
    return np.clip(arcs - 0.3, 0, 1) * (np.abs(columns - 0.5) > 0.06) + 2 * clavicle


def _lesion(
    lesion: Lesion, rows: np.ndarray, columns: np.ndarray, lungs: np.ndarray, rng: np.random.Generator
) -> np.ndarray:
    """What a lesion adds to the attenuation; that of heart and aorta is in the mediastinum."""
    x, y, width, height = lesion.box
    inside = ellipse(rows, columns, (x + width / 2, y + height / 2), (width / 2, height / 2))
    lung = np.clip(lungs * 8, 0, 1)
    noise = gaussian_filter(rng.normal(size=rows.shape), len(rows) / 50) * len(rows) / 50
    across = columns - x - width / 2
    if lesion.name == "Pleural effusion":
        meniscus = y + 0.35 * height * (1 - (2 * across / width) ** 2)
        return 0.42 * np.clip((rows - meniscus) * 60, 0, 1) * (np.abs(across) < width / 2) * lung
    if lesion.name == "Pneumothorax":
        bottom = y + height - 0.6 * across**2
        within = np.abs(across) < width / 2
        line = np.exp(-(((rows - bottom) / 0.006) ** 2))
        return (-0.13 * (rows < bottom) + 0.18 * line) * within * lung
    if lesion.name == "Lung cavity":
        return (0.32 * np.exp(-(((inside - 0.15) / 0.12) ** 2)) - 0.05 * (inside > 0.3)) * lung
    if lesion.name == "Consolidation":
        return 0.34 * np.clip(inside * 3 + noise * 0.9, 0, 1) * (inside > -0.1) * lung
    if lesion.name == "Calcification":
        return 0.55 * np.clip(inside * 6, 0, 1)
    if lesion.name == "Nodule/Mass":
        return 0.27 * np.clip(inside * 5, 0, 1)
    return np.zeros_like(rows)
