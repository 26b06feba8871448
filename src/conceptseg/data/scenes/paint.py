"""The colours a family is painted with, and what a function that draws one of its objects looks like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from conceptseg.data.scenes.colors import Rgb, luminance, mix
from conceptseg.data.scenes.drawing import Drawing

Form = tuple[float, ...]
BLACK: Rgb = (0.06, 0.06, 0.07)
DARK: Rgb = (0.16, 0.15, 0.16)
WHITE: Rgb = (0.96, 0.96, 0.95)
WOOD: Rgb = (0.40, 0.26, 0.15)
STALK: Rgb = (0.30, 0.22, 0.10)
GREEN: Rgb = (0.20, 0.48, 0.16)


@dataclass(frozen=True)
class Paint:
    """The colours of a family in one scene."""

    base: Rgb  # what its colour word names
    accent: Rgb  # a roof, a spout, the second colour of a pattern
    accent_word: str  # the word for the accent

    def darker(self, share: float) -> Rgb:
        return mix(self.base, BLACK, share)

    def ink(self) -> Rgb:
        """A colour for small details that shows on the base: dark, or light on a dark base."""
        return BLACK if luminance(self.base) > 0.28 else (0.72, 0.72, 0.70)

    def lighter(self, share: float) -> Rgb:
        return mix(self.base, WHITE, share)


Artist = Callable[[Form, np.random.Generator, Paint], Drawing]
