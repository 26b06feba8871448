"""What a kind of object is drawn from: coloured outlines in order, and how light falls on them."""

from __future__ import annotations

from dataclasses import dataclass, field

from conceptseg.data.scenes.colors import Rgb
from conceptseg.data.scenes.outlines import Points

Parts = list[tuple[Points, Rgb | None]]  # painted in order; None cuts a hole


@dataclass
class Drawing:
    """One object in unit coordinates, before it is turned, sized and lit."""

    parts: Parts
    shade: str = "flat"  # a key of `shading.SHADES`
    extra_colors: frozenset[str] = field(
        default_factory=frozenset
    )  # words that large other parts would deserve
    softness: float = 0.0  # blur of the edge as a share of the radius (cells under a microscope)
