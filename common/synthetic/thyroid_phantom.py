"""Draws B-mode images of a thyroid lobe: fully developed speckle over a map of tissues.

The echo field is complex white noise, weighted by the reflectivity of the tissue and blurred by the point spread
function of the probe; its magnitude is Rayleigh distributed as in real scanners (Wagner et al. 1983, "Statistics of
speckle in ultrasound B-scans"). Depth and width are in fractions of the image; reflectivity is in dB of the gland.
"""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter, gaussian_filter1d

from common.text.thyroid import Nodule

DYNAMIC_RANGE = 60.0  # dB shown from black to white, a usual setting of small-parts presets
LOOKS = 3  # steering angles that spatial compounding averages
ECHOGENICITY_DB = {"anechoic": -34.0, "hypoechoic": -12.0, "isoechoic": 0.0, "hyperechoic": 9.0}
HEIGHT_TO_WIDTH = {"taller-than-wide": 1.5, "round": 1.0, "wider-than-tall": 0.62}


def nodule_outline(nodule: Nodule, size: int, rng: np.random.Generator) -> np.ndarray:
    """Return the signed distance-like field (size, size) of a nodule: positive inside, 1 at its centre."""
    rows, columns = (np.mgrid[:size, :size] + 0.5) / size
    ratio = np.sqrt(HEIGHT_TO_WIDTH[nodule.shape])
    dx, dy = (columns - nodule.x) * ratio, (rows - nodule.y) / ratio
    angle = np.arctan2(dy, dx)
    waviness = {"smooth": 0.02, "ill-defined": 0.04, "irregular": 0.10}[nodule.margin]
    radius = nodule.radius * (
        1 + waviness * sum(rng.normal() * np.cos(k * angle + rng.uniform(0, 6.28)) for k in range(2, 7)) / 1.5
    )
    return 1 - np.hypot(dx, dy) / radius


def draw(
    nodules: list[Nodule], size: int, rng: np.random.Generator, *, trachea: int | None = None
) -> tuple[np.ndarray, list[np.ndarray]]:
    """Draw a lobe with ``nodules``.

    Args:
        trachea: at the image's left (0) edge, as beside a left lobe, or at its right (1); None: either.

    Returns:
        The image, uint8 (size, size), and one boolean mask (size, size) for each nodule.
    """
    level, attenuation = _tissues(size, rng, trachea)
    outlines = [nodule_outline(nodule, size, rng) for nodule in nodules]
    for nodule, outline in zip(nodules, outlines, strict=True):
        _place(level, attenuation, nodule, outline, rng)
    shadow = np.cumsum(attenuation, axis=0) - attenuation
    return _b_mode(level - shadow, rng), [outline > 0 for outline in outlines]


def _tissues(size: int, rng: np.random.Generator, trachea: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Reflectivity (dB) of skin, fat, strap muscle, gland, deep muscle, trachea and carotid; extra attenuation (dB)."""
    rows, columns = (np.mgrid[:size, :size] + 0.5) / size
    wave = [rng.uniform(0.006, 0.02) * np.sin(columns * rng.uniform(3, 7) + rng.uniform(0, 6.28)) for _ in range(4)]
    skin, fat, muscle, gland = 0.035, 0.10 + wave[0], 0.23 + wave[1] + 0.03 * (columns - 0.5) ** 2, 0.90 + wave[2]
    fibres = 5 * gaussian_filter(rng.normal(size=(size, size)), (1.0, size / 10)) * np.sqrt(size / 10) * 3
    level = np.where(rows < fat, -4.0, np.where(rows < muscle, -13.0 + fibres, 0.0))
    level = np.where(rows > gland, -12.0 + fibres, level)
    level = np.where(rows < skin, 8.0, level)
    for boundary, strength in ((fat, 9), (muscle, 11), (gland, 7)):
        level += strength * np.exp(-(((rows - boundary) * size / 1.3) ** 2))
    attenuation = np.zeros_like(level)
    level += gaussian_filter(rng.normal(size=(size, size)), size / 14) * size / 14 * 3.5  # uneven parenchyma
    drawn = int(rng.integers(2))
    side = drawn if trachea is None else trachea
    _trachea(level, attenuation, rows, columns, side=float(side), rng=rng)
    _carotid(level, rows, columns, side=float(1 - side), rng=rng)
    return level, attenuation


def _trachea(
    level: np.ndarray,
    attenuation: np.ndarray,
    rows: np.ndarray,
    columns: np.ndarray,
    *,
    side: float,
    rng: np.random.Generator,
) -> None:
    distance = np.hypot((columns - (side * 1.2 - 0.1)), (rows - rng.uniform(0.5, 0.58)) / 1.1) - 0.19
    size = len(rows)
    level[distance < 0] = -26.0
    for echo in range(3):  # the air front reverberates
        level += (15 - 5 * echo) * np.exp(-(((distance + 0.045 * echo) * size / 1.6) ** 2)) * (rows < 0.62)


def _carotid(
    level: np.ndarray, rows: np.ndarray, columns: np.ndarray, *, side: float, rng: np.random.Generator
) -> None:
    x, y = side + (0.5 - side) * rng.uniform(0.06, 0.12), rng.uniform(0.5, 0.75)
    distance = np.hypot(columns - x, rows - y) - rng.uniform(0.075, 0.09)
    level[distance < 0] = -34.0
    level += 12 * np.exp(-((distance * len(rows) / 1.3) ** 2))


def _place(
    level: np.ndarray, attenuation: np.ndarray, nodule: Nodule, outline: np.ndarray, rng: np.random.Generator
) -> None:
    """Blend a nodule into the map: body, rim, cystic parts, foci, shadow or enhancement behind it."""
    size = len(level)
    edge = {"smooth": 0.6, "ill-defined": 2.2, "irregular": 0.9}[nodule.margin]
    weight = gaussian_filter((outline > 0).astype(float), edge * size / 128)
    body = (
        ECHOGENICITY_DB[nodule.echogenicity] + gaussian_filter(rng.normal(size=level.shape), size / 40) * size / 40 * 2
    )
    if nodule.composition == "mixed":
        pores = gaussian_filter(rng.normal(size=level.shape), size / 45)
        body = np.where(pores > 0.9 * pores.std(), ECHOGENICITY_DB["anechoic"], body)
    level += weight * (body - level)
    rim = np.exp(-((outline * nodule.radius * size / 1.3) ** 2))
    if nodule.echogenicity == "isoechoic" or nodule.margin == "smooth":  # a thin halo; a cyst has a bright wall
        level += rim * (7 if nodule.composition == "cystic" else -14)
    if nodule.composition == "cystic":
        attenuation -= 0.30 * 128 / size * weight  # enhancement behind fluid
    _foci(level, attenuation, nodule, outline, rng)


def _foci(
    level: np.ndarray, attenuation: np.ndarray, nodule: Nodule, outline: np.ndarray, rng: np.random.Generator
) -> None:
    size = len(level)
    count = {"none": 0, "punctate": 6, "macrocalcification": 1, "comet-tail": 3}[nodule.foci]
    inside = np.argwhere(outline > 0.35)
    for y, x in inside[rng.integers(len(inside), size=count)] if len(inside) else []:
        if nodule.foci == "macrocalcification":
            width = max(1, round(nodule.radius * size * 0.35))
            level[y : y + 2, max(0, x - width) : x + width] = 24.0
            attenuation[y + 2 : y + 6, max(0, x - width) : x + width] += 5.0 * 128 / size
        else:
            level[y, x] = 20.0
            if nodule.foci == "comet-tail":
                level[y : y + 6, x] = np.linspace(26, 6, len(level[y : y + 6, x]))


def _b_mode(level: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Speckle, envelope and log compression of a reflectivity map (dB) to uint8."""
    size = len(level)
    noise = rng.standard_normal((2, LOOKS, *level.shape), dtype=np.float32) * (10 ** (level / 20)).astype(np.float32)
    echo = gaussian_filter1d(gaussian_filter1d(noise, 0.6 * size / 128, axis=-2), 1.3 * size / 128, axis=-1)
    envelope = np.hypot(*echo).mean(axis=0) + 10 ** (-42 / 20) * np.abs(rng.normal(size=level.shape))
    decibel = 20 * np.log10(envelope) + 6
    depth = np.linspace(0, 1, size)[:, None]
    decibel -= 30 * (depth - 0.35) ** 2 * rng.uniform(0.5, 1.2)  # gain falls off away from the focus
    grey = 140 + 255 * (decibel + rng.uniform(-2, 2)) / DYNAMIC_RANGE
    return (np.clip(gaussian_filter(grey, 0.35), 0, 255).astype(np.uint8) >> 2) << 2  # 64 grey levels: half the bytes
