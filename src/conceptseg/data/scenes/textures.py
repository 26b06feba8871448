"""Patterns that carry a name (stripes, dots, checks) and a bank of noise for all the materials that do not.

Drawing fresh noise for every object and frame would take most of the time of a scene. The bank holds one
periodic tile per kind of noise, made once per process from a fixed seed; users cut random windows out of it.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from conceptseg.data.scenes.seeding import between, stable_generator

FloatArray = NDArray[np.float32]
PATTERNS = ("striped", "dotted", "checkered")
_TILE = 512
_WINDOW = 256  # the largest window cut in one piece; larger ones are enlarged
# Fourier slopes: the larger, the softer. "plain" white noise is for the sensor.
_SLOPES = {"white": 0.0, "fine": 0.7, "rough": 1.2, "cloud": 1.8, "soft": 2.6}


@lru_cache(maxsize=1)
def _bank() -> dict[str, FloatArray]:
    """Every kind of noise as (768, 768), mean 0, standard deviation 1, periodic over 512."""
    rows = np.fft.fftfreq(_TILE)[:, None] * _TILE
    columns = np.fft.rfftfreq(_TILE)[None, :] * _TILE
    radius = np.sqrt(rows**2 + columns**2)
    radius[0, 0] = 1.0

    def shaped(name: str, weight: NDArray[np.float64]) -> FloatArray:
        spectrum = np.fft.rfft2(stable_generator("noise bank", name).standard_normal((_TILE, _TILE)))
        weight[0, 0] = 0.0
        return _finished(np.fft.irfft2(spectrum * weight, s=(_TILE, _TILE)))

    bank = {name: shaped(name, radius**-slope) for name, slope in _SLOPES.items()}
    # Bumps of one size (the relief of a coin, clumps in a nucleus, gravel): a band of frequencies.
    for name, period in (("bumps3", 5.0), ("bumps6", 9.0), ("bumps12", 18.0)):
        centre = _TILE / period
        bank[name] = shaped(name, np.exp(-(((radius - centre) / (0.45 * centre)) ** 2)))
    # Fibres: long in one direction, short in the other.
    bank["fibre"] = shaped(
        "fibre", np.exp(-((columns / 9.0) ** 2)) * np.minimum(np.abs(rows) + 1, 60.0) ** -0.4
    )
    # Wood: bands of a slowly bent coordinate; whole periods keep the tile periodic.
    height = np.arange(_TILE)[:, None] / _TILE
    bend = bank["soft"][:_TILE, :_TILE] * 0.05
    bank["wood"] = _finished(np.sin(2 * math.pi * 14 * (height + bend)) + 0.7 * bank["fibre"][:_TILE, :_TILE])
    return bank


def _finished(tile: NDArray[np.floating]) -> FloatArray:
    tile = (tile - tile.mean()) / tile.std()
    wrapped = np.pad(tile, ((0, _WINDOW), (0, _WINDOW)), mode="wrap").astype(np.float32)
    wrapped.setflags(write=False)
    return wrapped


def noise(rng: np.random.Generator, name: str, height: int, width: int) -> FloatArray:
    """A random window (height, width) of one kind of noise, mean about 0, standard deviation about 1."""
    tile = _bank()[name]
    if height > _WINDOW or width > _WINDOW:
        window = noise(rng, name, min(height, _WINDOW), min(width, _WINDOW))
        return enlarge(window, height, width)
    top, left = int(rng.random() * _TILE), int(rng.random() * _TILE)
    window = tile[top : top + height, left : left + width]
    flip = int(rng.random() * 4)
    return window[:: -1 if flip & 1 else 1, :: -1 if flip & 2 else 1]


def enlarge(field: FloatArray, height: int, width: int) -> FloatArray:
    """A smooth (height, width) version of a coarse field."""
    image = Image.fromarray(np.ascontiguousarray(field)).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(image, dtype=np.float32)


def pattern_mask(pattern: str, x: FloatArray, y: FloatArray, period: float, share: float) -> FloatArray:
    """Where the second colour of a pattern shows, 0..1 with smooth edges.

    Args:
        x, y: (h, w) pixel coordinates in the object's own, turned frame.
        period: pixels from one stripe (dot, check) to the next.
        share: about how much of the surface the second colour takes, 0.2..0.5; checks are always half.
    """
    if pattern == "striped":
        wave = np.abs((x / period) % 1.0 - 0.5) * 2.0  # 1 at the middle of a stripe of the second colour
        return np.clip((wave - (1.0 - share)) * (period / 2) + 0.5, 0, 1)
    if pattern == "dotted":
        row = np.floor(y / period)
        across = (x / period + 0.5 * (row % 2)) % 1.0 - 0.5
        down = y / period - row - 0.5
        radius = period * math.sqrt(share / math.pi)
        return np.clip(radius - np.sqrt(across**2 + down**2) * period + 0.5, 0, 1)
    # Two triangle waves, each clipped to a smooth square wave; their product is the checkerboard.
    first = np.clip((np.abs((x / (2 * period)) % 1.0 - 0.5) - 0.25) * 2 * period, -0.5, 0.5)
    second = np.clip((np.abs((y / (2 * period)) % 1.0 - 0.5) - 0.25) * 2 * period, -0.5, 0.5)
    return 0.5 + 2.0 * first * second


@lru_cache(maxsize=32)
def _ramps(cells: int, size: int) -> FloatArray:
    """(size, cells) weights of a smooth curve through `cells` values: cosine interpolation."""
    position = np.linspace(0, cells - 1, size)
    gap = np.abs(position[:, None] - np.arange(cells)[None, :])
    return np.where(gap < 1, 0.5 + 0.5 * np.cos(math.pi * np.minimum(gap, 1)), 0).astype(np.float32)


def smooth_field(rng: np.random.Generator, size: int, cells: int = 4) -> FloatArray:
    """A slow random field (size, size) with values about -1..1: uneven light, soft stains."""
    coarse = rng.standard_normal((cells, cells)).astype(np.float32) * np.float32(0.5)
    coarse += np.float32(between(rng, -0.6, 0.6)) * np.linspace(-1, 1, cells, dtype=np.float32)[:, None]
    coarse += np.float32(between(rng, -0.6, 0.6)) * np.linspace(-1, 1, cells, dtype=np.float32)[None, :]
    ramps = _ramps(cells, size)
    # Written out: a matrix product may round differently with another number of threads.
    field = np.zeros((size, size), np.float32)
    for row in range(cells):
        line = (coarse[row][:, None] * ramps.T).sum(0)
        field += ramps[:, row, None] * line[None, :]
    return field
