"""Give back the memory of a tensor that is mapped from a file, whoever made the mapping.

The pages come back from the file if they are read again, so nothing is lost but time.
"""

from __future__ import annotations

import ctypes
import mmap
import sys
from functools import lru_cache
from typing import Any

from torch import Tensor


def release_pages(tensor: Tensor) -> None:
    """Drop the whole pages that only this tensor fills. Only for tensors that were never written to.

    Does nothing where the system is not Linux.
    """
    size = tensor.numel() * tensor.element_size()
    madvise = _madvise()
    if madvise is None or not size or not tensor.is_contiguous():
        return
    start, page = tensor.data_ptr(), mmap.PAGESIZE
    first, last = -(-start // page) * page, (start + size) // page * page
    if first < last:
        madvise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), mmap.MADV_DONTNEED)


@lru_cache(maxsize=1)
def _madvise() -> Any:
    return ctypes.CDLL(None).madvise if sys.platform == "linux" else None
