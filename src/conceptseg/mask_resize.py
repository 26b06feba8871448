"""Masks at the size of their image: logits are resized, then asked which are above zero, as officially.

One mask at a time, and only where it can be: a resized logit lies between its four neighbours, so outside the
window of those that are above zero nothing has to be looked at.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from conceptseg.compact_masks import CompactMasks, Runs, Window, runs_of

# Pixels worked on at once: what a processor's cache holds, and what keeps a graphics card busy.
BLOCK = 2**18
GPU_BLOCK = 2**24


def masks_at_image_size(
    mask_logits: Tensor,
    size_hw: tuple[int, int],
    windows: Sequence[Window] | None = None,
    block: int | None = None,
) -> CompactMasks:
    """Bring masks to the size of their image.

    The pixels are those of `F.interpolate(mask_logits, size_hw, mode="bilinear") > 0`, but where that is zero
    to the last bit.

    Args:
        mask_logits: (N, h, w), before the sigmoid, for kept queries only; N may be 0.
        size_hw: height and width of the image in pixels.
        windows: where in the image each mask may lie; None: anywhere.
        block: pixels worked on at once; None: what suits the device.
    """
    above = mask_logits > 0
    rows, columns = above.any(2).cpu(), above.any(1).cpu()  # (N, h), (N, w)
    vertical, horizontal = _Axis(mask_logits.shape[1], size_hw[0]), _Axis(mask_logits.shape[2], size_hw[1])
    block = block or (BLOCK if mask_logits.device.type == "cpu" else GPU_BLOCK)
    runs = []
    for number in range(len(mask_logits)):
        left, top, right, bottom = (0, 0, *size_hw[::-1]) if windows is None else windows[number]
        y0, y1 = vertical.reach(rows[number], top, bottom)
        x0, x1 = horizontal.reach(columns[number], left, right)
        runs.append(_resized(mask_logits[number].float(), vertical, horizontal, (x0, y0, x1, y1), block))
    return CompactMasks(size_hw, runs)


class _Axis:
    """Where the pixels of one side of the image lie among the logits, as torch computes it."""

    def __init__(self, logits: int, pixels: int) -> None:
        scale = (torch.tensor(logits, dtype=torch.float32) / pixels).double()
        # In double and rounded once, as by the fused multiply-add that torch's own code compiles to.
        places = (scale * (torch.arange(pixels, dtype=torch.float64) + 0.5) - 0.5).float().clamp(min=0)
        self.before = places.long().clamp(max=logits - 1)  # (pixels,)
        self.after = (self.before + 1).clamp(max=logits - 1)  # (pixels,)
        self.share = places - self.before  # (pixels,) of the one after

    def reach(self, above: Tensor, start: int, end: int) -> tuple[int, int]:
        """From `start` to `end`: the first pixel beside a logit above zero, and one past the last."""
        found = (above[self.before[start:end]] | above[self.after[start:end]]).nonzero()
        return (start + int(found[0]), start + int(found[-1]) + 1) if len(found) else (start, start)

    def part(self, start: int, end: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
        """(pixels,) each: number before, number after, and share of the one after."""
        one, other, share = (values[start:end].to(device) for values in (self.before, self.after, self.share))
        return one, other, share


def _resized(logits: Tensor, vertical: _Axis, horizontal: _Axis, window: Window, block: int) -> Runs:
    """(h, w) -> the runs of the mask within a window."""
    left, top, right, bottom = window
    before, after, share = horizontal.part(left, right, logits.device)
    lines = logits[:, before] * (1 - share) + logits[:, after] * share  # (h, width of the window)
    mask = np.zeros((bottom - top, right - left), dtype=np.bool_)
    step = max(1, block // max(1, right - left))
    for start in range(top, bottom, step):
        end = min(start + step, bottom)
        before, after, share = vertical.part(start, end, logits.device)
        pixels = (lines[before] * (1 - share)[:, None]).addcmul_(lines[after], share[:, None])
        mask[start - top : end - top] = (pixels > 0).cpu().numpy()
    return runs_of(mask, (left, top), len(vertical.before))
