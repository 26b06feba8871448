"""What the lamp, the lens, the sensor and the file format do to the picture."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from conceptseg.data.scenes.colors import Rgb
from conceptseg.data.scenes.seeding import between, pick
from conceptseg.data.scenes.textures import FloatArray, noise, smooth_field


@dataclass(frozen=True)
class Effects:
    """What is done to one frame; zeros and ones do nothing."""

    illumination: float  # strength of the uneven light
    vignette: float
    cast: Rgb  # gains of red, green and blue
    contrast: float  # 1 leaves it
    brightness: float  # gain
    gamma: float
    blur: float  # pixels at 256
    noise: float  # standard deviation, 1 is white
    grainy: bool  # noise of each channel apart
    downscale: float  # the picture was once this much smaller
    jpeg: int | None  # quality
    greyscale: bool
    tint: Rgb | None  # colour of a one-dye picture
    tones_unclear: bool  # white, grey and black cannot be told apart


def choose_effects(
    style: str, greyscale: bool, difficulty: float, delicate: bool, patterned: bool, rng: np.random.Generator
) -> Effects:
    """Draw the effects of a scene.

    Args:
        delicate: a family is named white, grey, black or brown; light that changes those is held back.
        patterned: a family has a pattern, which blur must not wipe out.
    """

    def chance(share: float) -> bool:
        return float(rng.random()) < share * difficulty

    strong = greyscale or (not delicate and chance(0.4))
    illumination = between(rng, 0.05, 0.45 if strong else 0.15) if chance(0.6) else 0.0
    if style == "coins" and greyscale:
        illumination = between(rng, 0.1, 0.55)
    gain = between(rng, 0.06, 0.14) if strong else 0.04
    contrast = between(rng, 0.4, 1.0) if strong and chance(0.5) else between(rng, 0.9, 1.1)
    brightness = between(rng, 0.65, 1.25) if strong and chance(0.6) else between(rng, 0.95, 1.05)
    if style == "fluorescence":
        brightness, contrast = between(rng, 0.3, 1.0), 1.0
    blur = between(rng, 0.4, 0.9 if patterned else 1.7) if chance(0.45) else 0.0
    tint = None
    if style == "fluorescence" and float(rng.random()) < 0.3:
        tint = pick(rng, ((0.25, 0.45, 1.0), (0.2, 1.0, 0.3), (1.0, 0.25, 0.2), (0.6, 0.5, 1.0)))
    elif greyscale and style in ("objects", "coins", "brightfield") and float(rng.random()) < 0.2:
        tint = pick(rng, ((1.0, 0.88, 0.7), (0.85, 0.92, 1.0), (1.0, 0.95, 0.88)))
    # Stained and blood slides keep their colours most of the time, though no phrase names them.
    grey = greyscale and (style not in ("stain", "blood") or float(rng.random()) < 0.3)
    return Effects(
        illumination=illumination,
        vignette=between(rng, 0.1, 0.45 if strong else 0.2) if chance(0.3) else 0.0,
        cast=(1 + between(rng, -gain, gain), 1.0, 1 + between(rng, -gain, gain))
        if chance(0.6)
        else (1.0, 1.0, 1.0),
        contrast=contrast if difficulty > 0 else 1.0,
        brightness=brightness,
        gamma=between(rng, 0.75, 1.35) if strong and chance(0.5) else 1.0,
        blur=blur,
        # A dim slide is not drowned: the camera's gain was set for it.
        noise=between(rng, 0.005, 0.055) * min(brightness + 0.1, 1.0) if chance(0.6) else 0.0,
        grainy=float(rng.random()) < 0.5,
        downscale=between(rng, 0.5, 0.8) if not patterned and chance(0.1) else 1.0,
        jpeg=int(between(rng, 35, 95)) if chance(0.4) else None,
        greyscale=grey,
        tint=tint,
        tones_unclear=strong and not greyscale,
    )


def apply_effects(frame: FloatArray, effects: Effects, rng: np.random.Generator) -> NDArray[np.uint8]:
    """The finished picture (H, W, 3) from a frame (3, H, W) in 0..1, which is used up."""
    size = frame.shape[1]
    gain = (np.array(effects.cast, np.float32) * np.float32(effects.brightness))[:, None, None]
    if effects.illumination or effects.vignette:
        light = np.ones((size, size), np.float32)
        if effects.illumination:
            light += np.float32(effects.illumination) * smooth_field(rng, size, 3 + int(rng.random() * 3))
        if effects.vignette:
            axis = np.linspace(-1, 1, size, dtype=np.float32) ** 2
            light -= np.float32(effects.vignette * 0.5) * (axis[None, :] + axis[:, None])
        frame *= np.maximum(light, 0.2)
        frame *= gain
    else:
        frame *= gain
    if effects.greyscale:
        # Written out: a matrix product may round differently with another number of threads.
        frame = (frame[0] * np.float32(0.299) + frame[1] * np.float32(0.587) + frame[2] * np.float32(0.114))[
            None
        ]
    frame *= np.float32(255)
    np.clip(frame, 0, 255, out=frame)
    planes = frame.astype(np.uint8)
    image = Image.fromarray(
        planes[0] if len(planes) == 1 else np.ascontiguousarray(planes.transpose(1, 2, 0))
    )
    if effects.downscale < 1:
        small = max(int(size * effects.downscale), 8)
        image = image.resize((small, small), Image.Resampling.BOX).resize(
            (size, size), Image.Resampling.BILINEAR
        )
    if effects.blur:
        image = image.filter(ImageFilter.BoxBlur(1.4 * effects.blur * size / 256))
    if effects.contrast != 1.0 or effects.gamma != 1.0:
        ramp = np.arange(256) / 255
        ramp = np.clip(0.5 + (ramp - 0.5) * effects.contrast, 0, 1) ** effects.gamma
        image = image.point((ramp * 255).round().astype(int).tolist() * len(image.getbands()))
    if effects.noise:
        image = _add_noise(image, effects, size, rng)
    if effects.jpeg is not None:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=effects.jpeg)
        image = Image.open(buffer)
    if effects.tint is not None and image.mode == "L":
        bands = [image.point([int(level * gain_) for level in range(256)]) for gain_ in effects.tint]
        image = Image.merge("RGB", bands)
    return np.array(image.convert("RGB"))


def _add_noise(image: Image.Image, effects: Effects, size: int, rng: np.random.Generator) -> Image.Image:
    pixels = np.asarray(image, dtype=np.float32)
    strength = np.float32(effects.noise * 255)
    if pixels.ndim == 2:
        pixels = pixels + noise(rng, "white", size, size) * strength
    elif effects.grainy:
        grain = np.empty_like(pixels)
        for channel in range(3):
            np.multiply(noise(rng, "white", size, size), strength, out=grain[..., channel])
        pixels = pixels + grain
    else:
        grain = np.repeat(noise(rng, "white", size, size) * strength, 3, axis=1)
        pixels = pixels + grain.reshape(pixels.shape)
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))
