"""How a training step looks at an image: a window of it, mirrored, turned, in other colours.

Boxes and masks go along. Whatever the view, the pixels reach the model through the same resize as in use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from conceptseg.data.concept_image import ConceptObject
from conceptseg.errors import ConfigError
from conceptseg.images import Pixels, square_pixels


@dataclass(frozen=True)
class AugmentConfig:
    """What may change from look to look; every part can be switched off."""

    flip: bool = True  # left and right
    turns: bool | None = None  # quarter turns; None: where the phrases speak of what has no up and down
    windows: float = 0.8  # share of the steps that see windows of images; the others see them nearly whole
    smallest_window: float = 0.4  # its side as a share of the image's
    stretch: float = 0.15  # a window's sides differ by up to this share beside the image's own proportions
    colour: float = 0.2  # brightness, contrast and saturation change by up to this share; 0 switches it off

    def __post_init__(self) -> None:
        for name, top in (("windows", 1.0), ("smallest_window", 1.0), ("stretch", 0.5), ("colour", 0.9)):
            value = getattr(self, name)
            if not 0 <= value <= top or (name == "smallest_window" and value == 0):
                raise ConfigError(f"augment.{name} is {value}; give a share from 0 to {top}")


@dataclass(frozen=True)
class View:
    """One look: a window of the image, then a mirror image, then quarter turns counter-clockwise."""

    window_xyxy: tuple[int, int, int, int]  # pixels of the image
    mirrored: bool = False
    quarter_turns: int = 0

    def pixels(self, image: Pixels, resolution: int) -> Tensor:
        """(H, W, 3) -> (3, resolution, resolution) uint8."""
        x0, y0, x1, y1 = self.window_xyxy
        square = square_pixels(np.ascontiguousarray(image[y0:y1, x0:x1]), resolution)
        return self._moved(square).contiguous()

    def boxes(self, boxes_xyxy: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes in pixels of the image -> where the view shows them, and how much of each it shows.

        Args:
            boxes_xyxy: (O, 4).

        Returns:
            (O, 4) in 0..1, cut off at the edge of the view, and (O,) the visible share of their area.
        """
        x0, y0, x1, y1 = self.window_xyxy
        size = torch.tensor([x1 - x0, y1 - y0, x1 - x0, y1 - y0])
        placed = (boxes_xyxy - torch.tensor([x0, y0, x0, y0])) / size
        cut = placed.clamp(0, 1)
        visible = _area(cut) / _area(placed).clamp(min=1e-9)
        if self.mirrored:
            cut = torch.stack([1 - cut[:, 2], cut[:, 1], 1 - cut[:, 0], cut[:, 3]], dim=1)
        for _ in range(self.quarter_turns):  # (x, y) -> (y, 1 - x)
            cut = torch.stack([cut[:, 1], 1 - cut[:, 2], cut[:, 3], 1 - cut[:, 0]], dim=1)
        return cut, visible

    def masks(self, objects: Sequence[ConceptObject], size_hw: tuple[int, int], side: int) -> Tensor:
        """Masks of objects as the view shows them.

        Args:
            objects: of the image; one without a mask gives an empty one.
            size_hw: of the image.
            side: of the masks.

        Returns:
            (O, side, side) bool: a pixel is on where at least half of four points in it are.
        """
        x0, y0, x1, y1 = self.window_xyxy
        shares = (np.arange(2 * side) + 0.5) / (2 * side)
        rows = (y0 + shares * (y1 - y0)).astype(np.int64)
        columns = (x0 + shares * (x1 - x0)).astype(np.int64)
        small = np.zeros((len(objects), side, side), dtype=np.bool_)
        for i, it in enumerate(objects):
            full = it.decode(*size_hw)
            if full is not None:
                points = full[rows][:, columns].view(np.uint8)
                count = points[::2, ::2] + points[1::2, ::2] + points[::2, 1::2] + points[1::2, 1::2]
                small[i] = count >= 2
        return self._moved(torch.from_numpy(small))

    def _moved(self, maps: Tensor) -> Tensor:
        """(..., h, w), mirrored and turned."""
        if self.mirrored:
            maps = maps.flip(-1)
        return torch.rot90(maps, self.quarter_turns, (-2, -1))


def draw_view(
    width: int,
    height: int,
    config: AugmentConfig,
    shares: tuple[float, float],
    turns: bool,
    rng: np.random.Generator,
) -> View:
    """A view of an image of that size; draws the same numbers whatever is switched off.

    Args:
        width: of the image, in pixels.
        height: likewise.
        config: what may change.
        shares: least and greatest side of a window, as shares of the image's.
        turns: whether quarter turns are right for this data.
        rng: decides.
    """
    side, stretch, across, down = rng.random(4)
    mirrored, quarter_turns = bool(rng.random() < 0.5), int(rng.integers(4))
    share = shares[0] + (shares[1] - shares[0]) * side
    factor = (1 + config.stretch) ** (2 * stretch - 1)
    w = max(1, min(width, round(width * share * factor)))
    h = max(1, min(height, round(height * share / factor)))
    left, top = round(across * (width - w)), round(down * (height - h))
    return View((left, top, left + w, top + h), config.flip and mirrored, quarter_turns if turns else 0)


def recoloured(pixels: Tensor, amount: float, rng: np.random.Generator) -> Tensor:
    """(3, R, R) uint8 -> the same under another light: brightness, contrast, saturation."""
    factors = 1 + amount * (2 * rng.random(3) - 1)
    if not amount:
        return pixels
    brightness, contrast, saturation = (float(factor) for factor in factors)
    x = pixels.float() * brightness
    mean = x.mean()
    x = (x - mean) * contrast + mean
    grey = x.mean(0, keepdim=True)
    x = (x - grey) * saturation + grey
    return x.round().clamp(0, 255).to(torch.uint8)


def _area(boxes_xyxy: Tensor) -> Tensor:
    return (boxes_xyxy[:, 2] - boxes_xyxy[:, 0]) * (boxes_xyxy[:, 3] - boxes_xyxy[:, 1])
