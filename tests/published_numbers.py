"""Weights and inputs by formula, and the summary by which golden numbers were recorded (tests/golden)."""

import json
import math
import zlib
from pathlib import Path

import numpy as np
import torch

FOLDER = Path(__file__).parent / "golden"


def load(name):
    return json.loads((FOLDER / f"{name}.json").read_text())


def base(name, count, seed=0):
    """Numbers in [-1, 1] fixed by name and seed, in float64; the order of operations is part of the definition."""
    phase = zlib.crc32(f"{seed}:{name}".encode()) / 2**32
    index = np.arange(count, dtype=np.float64)
    return np.sin(1e4 * np.sin(0.7 * index * (1 + phase) + 6.283 * phase))


def weight(name, shape, kind, seed=0):
    """One entry of a state dict; ``kind`` may end in a factor, as in "weight*4"."""
    kind, _, factor = kind.partition("*")
    if kind == "count":
        return torch.zeros(shape, dtype=torch.int64)
    values = base(name, math.prod(shape), seed)
    scaled = {
        "norm": lambda: 1 + 0.1 * values,
        "var": lambda: 1 + 0.1 * values,
        "bias": lambda: 0.05 * values,
        "small": lambda: 0.05 * values,
        "embed": lambda: 0.5 * values,
        "weight": lambda: values * math.sqrt(2 / math.prod(shape[1:])),
    }[kind]()
    return torch.from_numpy((scaled * float(factor or 1)).reshape(shape).astype(np.float32))


def state_dict(entries, seed=0):
    return {name: weight(name, shape, kind, seed) for name, shape, kind in entries}


def wave(spec):
    """Image-like input of ``{"shape", "lead", "seed"}``."""
    shape, lead, seed = spec["shape"], spec["lead"], spec["seed"]
    image = np.arange(math.prod(shape[:lead]), dtype=np.float64)[:, None]
    place = np.arange(math.prod(shape[lead:]), dtype=np.float64)[None]
    slow = 0.5 * np.sin(0.01 * (1 + seed + 0.37 * image) * place + 0.5 * image)
    fast = 0.5 * np.sin(0.013 * (1 + 0.11 * image) * place)
    return torch.from_numpy((slow + fast).reshape(shape).astype(np.float32))


def noise(spec):
    """Feature-like input of ``{"shape", "name", "seed", "scale"[, "plus"]}``."""
    values = spec["scale"] * base(spec["name"], math.prod(spec["shape"]), spec["seed"]) + spec.get("plus", 0.0)
    return torch.from_numpy(values.reshape(spec["shape"]).astype(np.float32))


def check(actual, recorded, tolerance=1e-4):
    """Assert that ``actual`` has the recorded shape, 64 values, mean magnitude, spread and sum."""
    values = actual.detach().double().numpy()
    assert list(values.shape) == recorded["shape"]
    if "all" in recorded:
        whole = np.array(recorded["all"]).reshape(values.shape)
        np.testing.assert_allclose(values, whole, atol=tolerance * max(1.0, np.abs(whole).mean()), rtol=0)
        return
    flat, bound = values.reshape(-1), tolerance * max(1.0, recorded["abs_mean"])
    count = min(64, flat.size)
    np.testing.assert_allclose(flat[np.arange(count) * flat.size // count], recorded["values"], atol=bound, rtol=0)
    assert abs(np.abs(flat).mean() - recorded["abs_mean"]) <= bound and abs(flat.std() - recorded["std"]) <= bound
    assert abs(flat.sum() - recorded["sum"]) <= bound * flat.size
