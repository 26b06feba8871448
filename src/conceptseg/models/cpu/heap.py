"""Memory that was freed and that the C library still keeps.

Weights that are read, rounded and packed one after the other leave holes in the heap, which for SAM 3 are a
tenth of what the process holds.
"""

from __future__ import annotations

import ctypes
import sys


def give_back_freed() -> None:
    """Give the holes in the heap back to the system, where the C library is glibc; elsewhere do nothing."""
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
