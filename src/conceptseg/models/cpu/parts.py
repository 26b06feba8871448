"""Work on a map part by part, where that is faster: on a CPU, when no gradient is needed.

What lies between two layers is then small enough to stay in the cache, and to be memory that the process
already has. Fresh memory for the whole map, 100 MB a layer at SAM 3's sizes, can cost a fifth of its time.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor

FEWEST_NUMBERS = 2**20  # of a map; what lies between the layers of a smaller one is small enough


def asked_on_cpu(x: Tensor) -> bool:
    """Whether a network is only asked, on a CPU: neither exported, compiled nor trained."""
    # Compiling comes first: what is asked after it has no answer while a graph is traced.
    return not torch.compiler.is_compiling() and not torch.is_grad_enabled() and x.device.type == "cpu"


def in_parts(x: Tensor) -> bool:
    """Whether it is worth while for this map."""
    return asked_on_cpu(x) and x.numel() >= FEWEST_NUMBERS


def by_parts(function: Callable[[Tensor], Tensor], x: Tensor, side: int) -> Tensor:
    """Apply a function that keeps the shape to squares of a map, image by image.

    Args:
        function: of (1, side, side, C), or less at the right and bottom edge.
        x: (I, h, w, C).
        side: of a square, in tokens.

    Returns:
        (I, h, w, C).
    """
    done = torch.empty_like(x)
    images, height, width = x.shape[:3]
    for image, top, left in product(range(images), range(0, height, side), range(0, width, side)):
        square = (slice(image, image + 1), slice(top, top + side), slice(left, left + side))
        done[square] = function(x[square])
    return done
