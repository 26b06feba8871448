"""Images in: open any picture, and make the square tensor that the model reads.

- A *file* is read as a viewer shows it: turned upright by its EXIF orientation.
- A picture *in memory* (PIL, numpy, torch) is used as it is held, so that boxes and masks fit your pixels.
- Colour becomes 8-bit RGB: transparency is dropped (`convert("RGB")`, what the official usage does), 16-bit
  grey keeps its upper byte, CMYK and palettes are converted.
- Whatever has no one right reading (animation, floating point, more pixels than Pillow allows) is an
  `ImageError`.

Source of the resize: facebookresearch/sam3 `sam3/model/sam3_image_processor.py`.
"""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from conceptseg.errors import ImageError

Pixels: TypeAlias = "npt.NDArray[np.uint8]"  # (H, W, 3) RGB
ImageInput: TypeAlias = (
    "str | os.PathLike[str] | bytes | BinaryIO | Image.Image | npt.NDArray[np.uint8] | Tensor"
)

WANTED = "a path, a PIL image, a numpy array (H, W, 3) uint8 or a torch tensor (3, H, W) uint8"

# Their further frames are a preview, a second eye or layers: the first frame is the picture.
FIRST_FRAME_IS_THE_PICTURE = {"MPO", "PSD"}

UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # EXIF orientation -> what makes it upright
TURNED_BY_A_QUARTER = {5, 6, 7, 8}
EXIF_ORIENTATION = 0x0112


@dataclass(frozen=True)
class LoadedImage:
    """A picture as the library sees it."""

    pixels: Pixels  # (H, W, 3) RGB
    name: str  # for messages: the path, or "image"
    path: Path | None = None  # None for a picture that came from memory

    @property
    def size_hw(self) -> tuple[int, int]:
        return self.pixels.shape[0], self.pixels.shape[1]


def load_image(image: ImageInput | LoadedImage, name: str = "image") -> LoadedImage:
    """Open one image, whatever it is given as.

    Args:
        image: path, bytes of a file, open binary file, PIL image, numpy (H, W, 3) uint8, or torch (3, H, W)
            uint8; grey (H, W) and (1, H, W), and arrays with an alpha channel, are taken too.
        name: how messages call a picture that has no path.

    Raises:
        ImageError: it cannot be read, or has no one right reading; the message says what to do.
    """
    if isinstance(image, LoadedImage):
        return image
    if isinstance(image, (str, os.PathLike)):
        return _from_path(os.fspath(image))
    if isinstance(image, bytes):
        return LoadedImage(_from_stream(io.BytesIO(image), name, len(image)), name)
    if isinstance(image, Image.Image):
        return LoadedImage(_decode(image, name, upright=False), name)
    if isinstance(image, Tensor):
        return LoadedImage(_from_tensor(image, name), name)
    if isinstance(image, np.ndarray):
        return LoadedImage(_from_array(image, name), name)
    if hasattr(image, "read") and hasattr(image, "seek"):
        return LoadedImage(_from_stream(image, name), name)
    if isinstance(image, (list, tuple)):
        raise ImageError(
            f"{name} is a {type(image).__name__}; segment() takes one image, segment_many() takes several"
        )
    raise ImageError(f"{name} must be {WANTED}; got {type(image).__name__}")


def upright_size(path: Path) -> tuple[int, int]:
    """Height and width of the picture in a file as `load_image` gives it, from the header alone.

    Raises:
        ImageError: no such file, or no image of a known kind.
    """
    try:
        with Image.open(path) as picture:
            width, height = picture.size
            # Of a TIFF, newer versions of Pillow turn the size already here.
            turned = picture.format != "TIFF" and _orientation(picture) in TURNED_BY_A_QUARTER
    except FileNotFoundError as error:
        raise ImageError(f"{path}: no such file") from error
    except Exception as error:  # on damaged headers Pillow's readers raise almost anything
        raise ImageError(f"{path} cannot be read as an image, it may be damaged: {error}") from error
    return (width, height) if turned else (height, width)


def model_input(
    pixels: Pixels, resolution: int, mean: tuple[float, ...] = (0.5,) * 3, std: tuple[float, ...] = (0.5,) * 3
) -> Tensor:
    """Stretch a picture to the square that the model reads, and normalise it.

    The resize is done on 8-bit values on the CPU, so that every device sees the same numbers; the official
    code resizes on the device, which may differ by one grey level.

    Args:
        pixels: (H, W, 3) RGB.
        resolution: side of the square in pixels; the aspect ratio is not kept.

    Returns:
        (3, resolution, resolution) float32.
    """
    scale = torch.tensor(std).view(3, 1, 1)
    return (square_pixels(pixels, resolution).float() / 255 - torch.tensor(mean).view(3, 1, 1)) / scale


def square_pixels(pixels: Pixels, resolution: int) -> Tensor:
    """(H, W, 3) -> (3, resolution, resolution) uint8."""
    return stretched(torch.from_numpy(pixels).permute(2, 0, 1)[None], resolution)[0]


def stretched(pixels: Tensor, resolution: int) -> Tensor:
    """(I, 3, H, W) -> (I, 3, resolution, resolution), 8-bit: the one resize of training and inference."""
    return F.interpolate(pixels, (resolution, resolution), mode="bilinear", antialias=True)


def _from_path(given: str | bytes) -> LoadedImage:
    name = os.fsdecode(given)
    if "://" in name[:20]:
        raise ImageError(f"{name} is a web address; download it and give the file")
    path = Path(name)
    try:
        if not path.exists():
            raise ImageError(f"{name}: no such file")
        if path.is_dir():
            raise ImageError(f"{name} is a folder; give one image file, or several to segment_many()")
        if not path.is_file():
            raise ImageError(f"{name} is not a regular file")
        with path.open("rb") as stream:
            return LoadedImage(_from_stream(stream, name, path.stat().st_size), name, path)
    except (OSError, ValueError) as error:  # a name that no file can have, or no permission to read
        if isinstance(error, ImageError):
            raise
        shown = name if len(name) <= 100 else f"{name[:100]}..."
        raise ImageError(
            f"{shown!r} cannot be opened: {getattr(error, 'strerror', None) or error}"
        ) from error


def _from_stream(stream: BinaryIO, name: str, size: int | None = None) -> Pixels:
    if size == 0:
        raise ImageError(f"{name} is empty (0 bytes)")
    try:
        picture = Image.open(stream)
    except UnidentifiedImageError as error:
        raise ImageError(
            f"{name} is not an image file of a known kind, such as PNG, JPEG, WebP or TIFF"
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise ImageError(_too_large(name, None)) from error
    except MemoryError:
        raise
    except Exception as error:  # on damaged headers Pillow's readers raise almost anything
        raise ImageError(f"{name} cannot be read as an image, it may be damaged: {error}") from error
    with picture:
        return _decode(picture, name, upright=True)


def _decode(picture: Image.Image, name: str, *, upright: bool) -> Pixels:
    """Pixels of one PIL image, every check done before memory is spent on it."""
    width, height = picture.size
    if width < 1 or height < 1:
        raise ImageError(f"{name} has no pixels ({width} x {height})")
    if Image.MAX_IMAGE_PIXELS is not None and width * height > Image.MAX_IMAGE_PIXELS:
        raise ImageError(_too_large(name, (width, height)))
    if picture.format == "EPS":  # Pillow would hand the file to Ghostscript, which runs it as a program
        raise ImageError(f"{name} is a PostScript drawing; convert it to PNG first")
    try:
        frames = 1 if picture.format in FIRST_FRAME_IS_THE_PICTURE else getattr(picture, "n_frames", 1)
        if frames == 1:
            picture.load()
            if upright:
                turn = UPRIGHT.get(_orientation(picture))
                picture = picture if turn is None else picture.transpose(turn)
            return _rgb(picture, name)
    except (ImageError, MemoryError):
        raise
    except Exception as error:  # on damaged data Pillow's decoders raise almost anything
        raise ImageError(f"{name} is damaged or incomplete: {error}") from error
    raise ImageError(
        f"{name} has {frames} frames; choose one: picture = PIL.Image.open(...); picture.seek(k); "
        "then give picture.convert('RGB')"
    )


def _orientation(picture: Image.Image) -> int:
    try:
        return int(picture.getexif().get(EXIF_ORIENTATION, 1))
    except (
        Exception
    ):  # metadata that cannot be read tells nothing; viewers show such a picture as it is stored
        return 1


def _rgb(picture: Image.Image, name: str) -> Pixels:
    if picture.mode.startswith("I;16") or (picture.mode == "I" and picture.format == "PNG"):
        # Pillow's own conversion would clip every value above 255 to white. Its 16-bit colour readers keep
        # the upper byte.
        grey = (np.asarray(picture).astype(np.int64) >> 8).clip(0, 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if picture.mode in ("I", "F"):
        kind = "32-bit integer" if picture.mode == "I" else "floating-point"
        raise ImageError(
            f"{name} has {kind} pixels, which have no agreed black and white; scale it to 8 bits first"
        )
    if picture.mode == "LAB":
        raise ImageError(
            f"{name} is in Lab colour, which needs a colour profile to convert; save it as RGB first"
        )
    if picture.mode == "P" and "transparency" in picture.info:
        picture = picture.convert("RGBA")  # straight to RGB, Pillow warns about transparent palettes
    try:
        return np.array(picture if picture.mode == "RGB" else picture.convert("RGB"))
    except ValueError as error:
        raise ImageError(
            f"{name} has colour mode {picture.mode}, which cannot be converted to RGB"
        ) from error


def _from_array(array: npt.NDArray[np.uint8], name: str) -> Pixels:
    what = f"{name} is a numpy array of shape {array.shape} and type {array.dtype}"
    if array.ndim == 4 or (
        array.ndim == 3 and array.shape[-1] not in (1, 3, 4) and array.shape[0] not in (1, 3)
    ):
        raise ImageError(f"{what}; give one image, (H, W, 3) uint8")
    if array.ndim not in (2, 3):
        raise ImageError(f"{what}; it must be (H, W, 3) uint8")
    if array.ndim == 3 and array.shape[-1] not in (1, 3, 4):
        raise ImageError(f"{what}; numpy images are (H, W, 3): give array.transpose(1, 2, 0)")
    if array.dtype != np.uint8:
        raise ImageError(f"{what}; it must be uint8 with values 0 to 255{_hint(array.dtype.kind == 'f')}")
    if 0 in array.shape:
        raise ImageError(f"{what}; it has no pixels")
    grey = array[:, :, None] if array.ndim == 2 else array
    rgb = np.repeat(grey, 3, axis=2) if grey.shape[2] == 1 else grey[:, :, :3]
    return np.array(rgb, order="C")  # a copy: results keep it, and the caller may go on drawing into theirs


def _from_tensor(tensor: Tensor, name: str) -> Pixels:
    what = f"{name} is a torch tensor of shape {tuple(tensor.shape)} and type {str(tensor.dtype)[6:]}"
    if tensor.ndim == 4:
        raise ImageError(f"{what}; give one image, (3, H, W) uint8, or several to segment_many()")
    if tensor.ndim not in (2, 3):
        raise ImageError(f"{what}; it must be (3, H, W) uint8")
    if tensor.ndim == 3 and tensor.shape[0] not in (1, 3, 4):
        advice = "torch images are (3, H, W): give tensor.permute(2, 0, 1)"
        raise ImageError(
            f"{what}; {advice if tensor.shape[-1] in (1, 3, 4) else 'it must be (3, H, W) uint8'}"
        )
    if tensor.dtype != torch.uint8:
        raise ImageError(
            f"{what}; it must be uint8 with values 0 to 255{_hint(tensor.dtype.is_floating_point)}"
        )
    chw = tensor[None] if tensor.ndim == 2 else tensor
    return _from_array(chw.detach().cpu().permute(1, 2, 0).numpy(), name)


def _hint(is_float: bool) -> str:
    return " (if yours are 0 to 1, multiply by 255 and round)" if is_float else ""


def _too_large(name: str, size: tuple[int, int] | None) -> str:
    limit = Image.MAX_IMAGE_PIXELS or 0
    has = f"{size[0]} x {size[1]} = {size[0] * size[1]:,}" if size else f"more than {2 * limit:,}"
    return (
        f"{name} has {has} pixels, over the limit of {limit:,} that guards against decompression bombs; "
        "make it smaller, or raise PIL.Image.MAX_IMAGE_PIXELS if you trust it"
    )
