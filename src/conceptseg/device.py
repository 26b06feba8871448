"""Where the model runs, and in which number type.

`auto` takes the best device there is: CUDA, then Apple's MPS, then the CPU. Half precision is used through
autocast, as the official usage does: weights and box coordinates stay float32, matrix products do not.
"""

from __future__ import annotations

import torch

from conceptseg.errors import OptionError, shown
from conceptseg.models.config import RESOLUTION
from conceptseg.models.cpu.choice import instruction_set

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def choose_device(device: str | torch.device = "auto") -> torch.device:
    """Turn "auto", "cpu", "cuda", "cuda:1", "mps" or a torch device into a device that is there.

    Raises:
        OptionError: unknown, or not on this machine.
    """
    if isinstance(device, str) and device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        chosen = torch.device(device)
    except (RuntimeError, TypeError, ValueError) as error:
        raise OptionError(
            f"unknown device {shown(device)}; choose auto, cpu, cuda (or cuda:0, ...) or mps"
        ) from error
    if chosen.type not in ("cpu", "cuda", "mps"):
        raise OptionError(
            f"device {shown(device)} is not supported; choose auto, cpu, cuda (or cuda:0, ...) or mps"
        )
    if chosen.type == "cuda":
        if not torch.cuda.is_available():
            raise OptionError(
                f"device {str(device)!r} was asked for, but torch sees no CUDA GPU; choose auto or cpu"
            )
        if chosen.index is not None and chosen.index >= torch.cuda.device_count():
            raise OptionError(
                f"device {str(device)!r} was asked for, but there are {torch.cuda.device_count()} CUDA GPUs"
            )
    if chosen.type == "mps" and not torch.backends.mps.is_available():
        raise OptionError(
            f"device {str(device)!r} was asked for, but torch sees no Apple GPU; choose auto or cpu"
        )
    return chosen


# Below this many parameters a CPU spends more on converting numbers than it saves on multiplying them.
LARGE = 50_000_000


def choose_dtype(
    dtype: str | torch.dtype, device: torch.device, parameters: int | None = None
) -> torch.dtype:
    """Turn "auto", "float32", "bfloat16" or "float16" into a number type for this device.

    `auto` is bfloat16 on CUDA GPUs that compute in it, and for large models on CPUs that have instructions
    for it (AVX512-BF16, AMX); float32 elsewhere.

    Args:
        dtype: what was asked for.
        device: where the model runs.
        parameters: of the model; None: not known yet, and taken for small.

    Raises:
        OptionError: unknown.
    """
    if isinstance(dtype, str) and dtype == "auto":
        native = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        if device.type == "cpu" and parameters is not None and parameters >= LARGE:
            native = has_bfloat16_instructions()
        return torch.bfloat16 if native else torch.float32
    chosen = DTYPES.get(dtype) if isinstance(dtype, str) else dtype
    if not isinstance(chosen, torch.dtype) or chosen not in DTYPES.values():
        raise OptionError(f"unknown dtype {shown(dtype)}; choose auto, {', '.join(DTYPES)}")
    return chosen


def has_bfloat16_instructions() -> bool:
    """Whether this CPU multiplies matrices in bfloat16, rather than imitating it in float32."""
    return instruction_set() is not None


def choose_resolution(resolution: int | None, default: int, stride: int) -> int:
    """Check the side of the square that images are stretched to.

    Args:
        resolution: in pixels; None: what the model was trained at.
        stride: the side must be a multiple of this.

    Raises:
        OptionError: not a positive multiple, and the message names the nearest ones; or too large.
    """
    if resolution is None:
        resolution = default
    if isinstance(resolution, bool) or not isinstance(resolution, int):
        raise OptionError(f"resolution must be a whole number of pixels; got {shown(resolution)}")
    if resolution < stride or resolution % stride:
        below, above = resolution // stride * stride, (resolution // stride + 1) * stride
        nearest = f"{below} or {above}" if below >= stride else str(max(above, stride))
        raise OptionError(
            f"resolution {resolution} is not a positive multiple of {stride} for this model; try {nearest}"
        )
    if resolution > RESOLUTION[1]:
        raise OptionError(f"resolution {resolution} is more than {RESOLUTION[1]}, the largest that is tried")
    return resolution
