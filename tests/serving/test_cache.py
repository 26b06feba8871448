"""Encoded images are kept by bytes and use, and encoded once."""

import asyncio

import numpy as np
import pytest

from conceptseg.serving.cache import ImageCache, image_id, size_in_bytes
from conceptseg.serving.metrics import Metrics
from tests.serving.conftest import assert_problem, png


@pytest.fixture
def encoded(tiny_segmenter, picture):
    return tiny_segmenter.encode(picture)


def test_the_least_recently_used_image_is_forgotten_first(encoded):
    size = size_in_bytes(encoded)
    cache = ImageCache(2 * size + 1, Metrics())

    async def encode():
        return encoded

    async def use():
        for key in ("a", "b"):
            await cache.get_or_encode(key, encode)
        cache.get("a")
        await cache.get_or_encode("c", encode)

    asyncio.run(use())
    assert ["a" in cache, "b" in cache, "c" in cache] == [True, False, True]
    assert cache.bytes == 2 * size


def test_size_counts_features_and_pixels(encoded, picture):
    features = encoded.features
    at_least = sum(t.nbytes for t in features.levels + features.trunk) + picture.nbytes
    assert at_least <= size_in_bytes(encoded) < 2 * at_least


def test_requests_on_one_image_share_one_encoding_that_outlives_the_first(encoded):
    cache, calls = ImageCache(1 << 30, Metrics()), []

    async def encode():
        calls.append(1)
        await asyncio.sleep(0.02)
        return encoded

    async def use():
        first = asyncio.ensure_future(cache.get_or_encode("a", encode))
        others = [asyncio.ensure_future(cache.get_or_encode("a", encode)) for _ in range(3)]
        await asyncio.sleep(0)
        first.cancel()
        return await asyncio.gather(*others)

    assert all(found is encoded for found in asyncio.run(use())) and calls == [1]


def test_a_failed_encoding_is_not_kept(encoded):
    cache, calls = ImageCache(1 << 30, Metrics()), []

    async def encode():
        calls.append(1)
        if len(calls) == 1:
            raise ValueError("broken")
        return encoded

    async def use():
        with pytest.raises(ValueError, match="broken"):
            await cache.get_or_encode("a", encode)
        return await cache.get_or_encode("a", encode)

    assert asyncio.run(use()) is encoded


def test_the_id_is_the_hash_of_the_file(client, photo):
    assert client.post("/v1/images", files={"image": photo}).json()["id"] == image_id(photo)


def test_an_image_larger_than_the_cache_is_answered_but_not_kept(start, picture):
    client = start(cache_bytes=1)
    file = png(np.ascontiguousarray(picture[::-1]))
    assert_problem(client.post("/v1/images", files={"image": file}), 413, "more memory")
    answer = client.post("/v1/segment", files={"image": file}, data={"prompt": '{"text": "coin"}'})
    assert answer.status_code == 200
