"""Random numbers that depend only on what they are for: the same in every process and on every machine."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

T = TypeVar("T")


def stable_generator(*parts: object) -> np.random.Generator:
    """A generator seeded by the printed form of `parts`.

    Python's own `hash()` is salted per process, so two workers would disagree on it.
    """
    digest = hashlib.blake2b("\x1f".join(str(part) for part in parts).encode(), digest_size=8).digest()
    return np.random.default_rng(int.from_bytes(digest, "little"))


def pick(rng: np.random.Generator, options: Sequence[T]) -> T:
    """One of the options, each as likely; `Generator.choice` takes ten times as long."""
    return options[int(rng.random() * len(options))]


def between(rng: np.random.Generator, low: float, high: float) -> float:
    """A number from low to high, as a Python float."""
    return low + (high - low) * float(rng.random())
