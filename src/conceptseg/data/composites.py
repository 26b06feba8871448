"""Pictures made of labelled photographs: objects of several kinds, pasted on another picture.

A photograph with one object in the middle teaches what the object is; several of them on one picture teach
to count, to tell apart and to leave out (Ghiasi et al. 2021, "Simple Copy-Paste", arXiv:2012.07177). What is
pasted is scaled, turned, mirrored, lit and blurred anew, and its edge is blended; whatever lies under it
loses that part of its mask. Every draw is determined by the generator that is passed in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image, ImageFilter
from torch import Tensor
from torchvision.ops import masks_to_boxes

from conceptseg.data.annotated_view import AnnotatedView
from conceptseg.data.collate import PreparedImage
from conceptseg.data.cutouts import Cutout, Cutouts
from conceptseg.errors import ConfigError
from conceptseg.images import Pixels

TRIES = 6  # places that are tried for an object before it is left out


@dataclass(frozen=True)
class CompositeConfig:
    """How pictures are put together."""

    kinds: int = 3  # at most so many different names in a picture
    objects: int = 9  # at most so many objects
    smallest: float = 0.10  # side of an object as a share of the picture's; the square root of its area
    largest: float = 0.60
    turn: float = 20.0  # degrees either way
    light: float = 0.25  # brightness, contrast and each channel change by up to this share
    blur: float = 1.2  # greatest radius of a blur, in pixels of the picture
    visible: float = 0.5  # least share of every object that stays in sight
    same: float = 0.3  # how often another one of a kind is the same cut-out again

    def __post_init__(self) -> None:
        if self.kinds < 1 or self.objects < 1:
            raise ConfigError("composites need kinds and objects of 1 or more")
        if not 0 < self.smallest <= self.largest <= 1:
            raise ConfigError("composites.smallest and largest must be shares, the smaller one first")
        for name in ("light", "visible", "same"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(
                    f"composites.{name} is {getattr(self, name)}; give a share from 0 to below 1"
                )
        if self.turn < 0 or self.blur < 0:
            raise ConfigError("composites.turn and blur must be 0 or more")


@dataclass
class Composite:
    """A picture and where what lies in it."""

    pixels: Pixels  # (side, side, 3)
    names: list[str]  # of the objects
    masks: npt.NDArray[np.bool_]  # (objects, side, side), what is in sight of each

    @classmethod
    def empty(cls, pixels: Pixels) -> Composite:
        """A picture on which nothing is known to lie."""
        return cls(pixels, [], np.zeros((0, *pixels.shape[:2]), np.bool_))


def compose(
    cutouts: Cutouts,
    ground: Composite,
    names: Sequence[str],
    config: CompositeConfig,
    rng: np.random.Generator,
) -> Composite:
    """Paste objects on a picture.

    Args:
        cutouts: to draw from.
        ground: what they are pasted on, with the objects that it shows; is not changed.
        names: of the kinds to paste, each at least once where there is room.
        config: how.
        rng: decides.

    Returns:
        The objects of the ground first, then those that were pasted.
    """
    side = ground.pixels.shape[0]
    picture = ground.pixels.astype(np.float32)
    found = Composite(ground.pixels, list(ground.names), ground.masks)
    masks = [mask.copy() for mask in ground.masks]
    areas = [int(mask.sum()) for mask in masks]
    count = max(len(names), _how_many(config.objects, rng))
    # Many objects are small ones, as in any picture.
    largest = max(config.smallest, min(config.largest, 1.1 / np.sqrt(count)))
    typical = float(np.exp(rng.uniform(np.log(config.smallest), np.log(largest))))
    drawn: dict[str, Cutout] = {}
    for number in range(count):
        name = names[number] if number < len(names) else names[int(rng.integers(len(names)))]
        again = name in drawn and rng.random() < config.same
        cutout = drawn[name] if again else cutouts.draw(name, rng)
        drawn[name] = cutout
        share = np.clip(typical * np.exp(rng.normal(0, 0.3)), 0.8 * config.smallest, config.largest)
        colour, alpha = _changed(cutout, float(share) * side, config, rng)
        if alpha.shape[0] > side or alpha.shape[1] > side:
            continue
        solid = alpha > 0.5
        window = _place(solid, masks, areas, side, config.visible, rng)
        if window is None:
            continue
        for mask in masks:
            mask[window] &= ~solid
        whole = np.zeros((side, side), np.bool_)
        whole[window] = solid
        masks.append(whole)
        areas.append(int(solid.sum()))
        found.names.append(name)
        picture[window] += alpha[..., None] * (colour - picture[window])
    found.pixels = picture.round().clip(0, 255).astype(np.uint8)
    if masks:
        found.masks = np.stack(masks)
    return found


def pasted_on(
    view: AnnotatedView, cutouts: Cutouts, config: CompositeConfig, rng: np.random.Generator
) -> AnnotatedView:
    """An annotated view with more objects on it, of names that it surely shows or surely does not.

    Args:
        view: is not changed; objects with a box only keep it, whatever is pasted over them.
        cutouts: to draw from.
        config: how.
        rng: decides.
    """
    known = [name for name in cutouts.names if name in view.phrases or name in view.absent]
    if not known:
        return view
    kinds = int(rng.integers(1, config.kinds + 1))
    names = [known[int(i)] for i in rng.permutation(len(known))[:kinds]]
    prepared = view.prepared
    side, mask_side = prepared.pixels.shape[-1], prepared.masks.shape[-1]
    size_hw, boxes = prepared.size_hw, prepared.boxes_xyxy.view(-1, 4)
    whole = _resized(prepared.masks, side)
    for number in (~prepared.has_mask).nonzero()[:, 0].tolist():
        whole[number] = box_mask(boxes[number], size_hw, side)
    before = len(boxes)
    ground = Composite(prepared.pixels.permute(1, 2, 0).numpy(), [""] * before, whole.bool().numpy())
    composite = compose(cutouts, ground, names, config, rng)
    masks = torch.from_numpy(composite.masks)
    tight = mask_boxes(masks) * torch.tensor([size_hw[1], size_hw[0], size_hw[1], size_hw[0]])
    tight[:before][~prepared.has_mask] = boxes[~prepared.has_mask]
    phrases = {name: list(numbers) for name, numbers in view.phrases.items()}
    for number, name in enumerate(composite.names[before:], before):
        phrases.setdefault(name, []).append(number)
    added = torch.ones(len(composite.names) - before, dtype=torch.bool)
    return AnnotatedView(
        PreparedImage(
            pixels=torch.from_numpy(composite.pixels).permute(2, 0, 1).contiguous(),
            boxes_xyxy=tight,
            size_hw=size_hw,
            masks=covered(masks, mask_side),
            has_mask=torch.cat([prepared.has_mask, added]),
        ),
        phrases,
        [name for name in view.absent if name not in phrases],
    )


def mask_boxes(masks: Tensor) -> Tensor:
    """(O, h, w) bool -> (O, 4) xyxy in 0..1; an empty mask gives a box without area."""
    height, width = masks.shape[-2:]
    boxes = torch.zeros(len(masks), 4)
    full = masks.flatten(1).any(1)
    if full.any():
        tight = masks_to_boxes(masks[full])
        tight[:, 2:] += 1  # the last pixel belongs to the box
        boxes[full] = tight / torch.tensor([width, height, width, height])
    return boxes


def box_mask(box_xyxy: Tensor, size_hw: tuple[float, float], side: int) -> Tensor:
    """(side, side) bool: what a box holds, at least one pixel.

    Args:
        box_xyxy: (4,), in the units of `size_hw`.
        size_hw: of the picture that it lies on.
        side: of the mask.
    """
    height, width = size_hw
    x0, y0, x1, y1 = (box_xyxy / torch.tensor([width, height, width, height]) * side).tolist()
    top, left = min(int(y0), side - 1), min(int(x0), side - 1)
    mask = torch.zeros(side, side, dtype=torch.bool)
    mask[top : max(top + 1, round(y1)), left : max(left + 1, round(x1))] = True
    return mask


def covered(masks: Tensor, side: int) -> Tensor:
    """(O, h, w) bool -> (O, side, side) bool: a pixel is on where at least half of it is covered."""
    return _resized(masks, side) >= 0.5


def _resized(masks: Tensor, side: int) -> Tensor:
    """(O, h, w) -> (O, side, side) float, the share of each pixel that is covered."""
    if not len(masks):
        return torch.zeros(0, side, side)
    return F.interpolate(masks[None].float(), size=(side, side), mode="area")[0]


def _how_many(most: int, rng: np.random.Generator) -> int:
    """1 to `most`, few more often than many."""
    return 1 + int(most * rng.random() ** 1.7)


def _changed(
    cutout: Cutout, size: float, config: CompositeConfig, rng: np.random.Generator
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """The object as it is pasted: (h, w, 3) colours and (h, w) how much of them, 0 to 1."""
    height, width = cutout.mask.shape
    scale = size / np.sqrt(height * width)
    stretch = float(np.exp(rng.uniform(-0.12, 0.12)))
    new = (max(4, round(width * scale * stretch)), max(4, round(height * scale / stretch)))
    mirrored, angle = rng.random() < 0.5, float(rng.uniform(-config.turn, config.turn))
    pixels = Image.fromarray(cutout.pixels).resize(new, Image.Resampling.BILINEAR, reducing_gap=2.0)
    alpha = Image.fromarray(cutout.mask.astype(np.uint8) * 255).resize(new, Image.Resampling.BILINEAR)
    if mirrored:
        pixels = pixels.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        alpha = alpha.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if abs(angle) > 2:
        pixels = pixels.rotate(angle, Image.Resampling.BILINEAR, expand=True)
        alpha = alpha.rotate(angle, Image.Resampling.BILINEAR, expand=True)
    if rng.random() < 0.3:
        pixels = pixels.filter(ImageFilter.GaussianBlur(float(rng.uniform(0, config.blur))))
    alpha = alpha.filter(ImageFilter.GaussianBlur(float(rng.uniform(0.4, 1.0))))
    colour = np.asarray(pixels, np.float32)
    brightness, contrast = 1 + config.light * rng.uniform(-1, 1, 2)
    tint = 1 + 0.4 * config.light * rng.uniform(-1, 1, 3).astype(np.float32)
    mean = colour.mean()
    colour = ((colour - mean) * np.float32(contrast) + mean) * np.float32(brightness) * tint
    return colour.astype(np.float32), np.asarray(alpha, np.float32) / np.float32(255)


def _place(
    solid: npt.NDArray[np.bool_],
    masks: Sequence[npt.NDArray[np.bool_]],
    areas: Sequence[int],
    side: int,
    visible: float,
    rng: np.random.Generator,
) -> tuple[slice, slice] | None:
    """Where an object fits so that enough of all others stays in sight; None where no place was found."""
    height, width = solid.shape
    for _ in range(TRIES):
        top, left = int(rng.integers(side - height + 1)), int(rng.integers(side - width + 1))
        window = np.s_[top : top + height, left : left + width]
        left_over = (
            (int(mask.sum()) - int((mask[window] & solid).sum())) / max(area, 1)
            for mask, area in zip(masks, areas, strict=True)
        )
        if all(share >= visible for share in left_over):
            return window
    return None
