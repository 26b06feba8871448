"""Encoded images by the hash of their file: bounded by bytes, the least recently used forgotten first.

All of it runs on the event loop, so it needs no lock. Requests on one image that is not there yet share one
encoding, which goes on when the request that began it gives up.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable

from torch import Tensor

from conceptseg.segmenter import EncodedImage
from conceptseg.serving.metrics import Metrics


def image_id(content: bytes) -> str:
    """Of a file's bytes: the same file has the same id, on every server."""
    return hashlib.sha256(content).hexdigest()


class ImageCache:
    """Keeps encoded images; one that is larger than the bound is answered, but not kept."""

    def __init__(self, max_bytes: int, metrics: Metrics) -> None:
        self.max_bytes = max_bytes
        self.bytes = 0
        self._metrics = metrics
        self._kept: OrderedDict[str, EncodedImage] = OrderedDict()  # least recently used first
        self._encoding: dict[str, asyncio.Task[EncodedImage]] = {}

    def __contains__(self, key: str) -> bool:
        return key in self._kept

    def get(self, key: str) -> EncodedImage | None:
        """What is kept under this id, which thereby is the most recently used."""
        found = self._kept.get(key)
        if found is not None:
            self._kept.move_to_end(key)
            self._metrics.cache_hits.inc()
        return found

    async def get_or_encode(self, key: str, encode: Callable[[], Awaitable[EncodedImage]]) -> EncodedImage:
        """What is kept, is being encoded for somebody else, or is encoded now."""
        found = self.get(key)
        if found is not None:
            return found
        task = self._encoding.get(key)
        if task is None:
            self._metrics.cache_misses.inc()
            task = asyncio.ensure_future(self._encode(key, encode))
            self._encoding[key] = task
            task.add_done_callback(lambda done: self._done(key, done))
        return await asyncio.shield(task)

    async def _encode(self, key: str, encode: Callable[[], Awaitable[EncodedImage]]) -> EncodedImage:
        encoded = await encode()
        size = size_in_bytes(encoded)
        if size <= self.max_bytes:
            self._kept[key] = encoded
            self.bytes += size
            while self.bytes > self.max_bytes:
                self.bytes -= size_in_bytes(self._kept.popitem(last=False)[1])
            self._metrics.cache_bytes.set(self.bytes)
        return encoded

    def _done(self, key: str, task: asyncio.Task[EncodedImage]) -> None:
        del self._encoding[key]
        if not task.cancelled():
            task.exception()  # asked for here, in case that nobody waits any more


def size_in_bytes(encoded: EncodedImage) -> int:
    """Memory that an encoded image holds: its features, and its pixels for results."""
    features = encoded.features
    tensors: dict[int, Tensor] = {
        tensor.untyped_storage().data_ptr(): tensor
        for tensor in (*features.levels, *features.positions, *features.trunk)
    }
    return encoded.image.pixels.nbytes + sum(t.untyped_storage().nbytes() for t in tensors.values())
