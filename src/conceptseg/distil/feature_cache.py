"""A teacher's features of many images on disk, so that a large teacher runs once and not once per round.

FOLDER/index.json                    whose features, of which images, in which shard
FOLDER/features-00000.safetensors    some images each; bfloat16

The size is estimated from one image before anything is written. An interrupted run goes on: shards that are
there are kept, because each is written in one step.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from conceptseg.checkpoints.atomic_write import replacing, write_text
from conceptseg.errors import DataError

INDEX = "index.json"
IMAGES_PER_SHARD = 64


@dataclass(frozen=True)
class CacheSize:
    """What a cache takes on disk."""

    images: int
    bytes_per_image: int

    @property
    def gigabytes(self) -> float:
        return self.images * self.bytes_per_image / 1e9

    def __str__(self) -> str:
        return f"{self.images:,} images x {self.bytes_per_image / 1e6:.2f} MB = {self.gigabytes:.2f} GB"


class FeatureCache:
    """Features by the number of their image."""

    def __init__(
        self,
        folder: Path,
        teacher: str,
        paths: Sequence[Path],
        resolution: int,
        images_per_shard: int = IMAGES_PER_SHARD,
    ) -> None:
        """Args:
        folder: made when missing.
        teacher: fingerprint of the model whose features these are.
        paths: of the images, in the order of their numbers.
        resolution: that the teacher sees them at.
        images_per_shard: images in one file.
        """
        self.folder = folder
        self.count = len(paths)
        # Sizes tell another folder's 0001.jpg from this one's, and the folder may be moved.
        names = "\n".join(f"{path.name} {path.stat().st_size}" for path in paths)
        self._identity = {
            "teacher": teacher,
            "resolution": resolution,
            "images": self.count,
            "names": hashlib.sha256(names.encode()).hexdigest()[:16],
            "images_per_shard": images_per_shard,
        }
        self._per_shard = images_per_shard

    @property
    def shards(self) -> int:
        return math.ceil(self.count / self._per_shard)

    def estimate(self, levels: Sequence[Tensor]) -> CacheSize:
        """Args:
        levels: the features of one image, each (1, D, h, w).
        """
        return CacheSize(self.count, sum(2 * level.numel() for level in levels))

    def fill(
        self,
        features: Callable[[Sequence[int]], list[Tensor]],
        process: int = 0,
        processes: int = 1,
    ) -> None:
        """Compute and write what is not there yet.

        Args:
            features: image numbers -> levels, each (I, D, h, w).
            process: which of several that each fill their share; nobody reads before all are done.
            processes: how many there are.

        Raises:
            DataError: the folder holds the features of another teacher, or of other images.
        """
        self._begin()
        for shard in range(process, self.shards, processes):
            if not self._file(shard).is_file():
                first = shard * self._per_shard
                numbers = list(range(first, min(first + self._per_shard, self.count)))
                tensors = {}
                for number in numbers:  # one by one: what a shard holds must not fit the device at once
                    for depth, level in enumerate(features([number])):
                        tensors[f"{number}.{depth}"] = level[0].to("cpu", torch.bfloat16).contiguous()
                with replacing(self._file(shard)) as path:
                    save_file(tensors, path)

    def read(self, numbers: Sequence[int]) -> list[Tensor]:
        """The levels of some images, finest first, each (I, D, h, w) bfloat16.

        Raises:
            DataError: a shard is missing or damaged.
        """
        images: list[list[Tensor]] = []
        for number in numbers:
            file = self._file(number // self._per_shard)
            try:
                with safe_open(file, framework="pt") as shard:
                    depths = sum(name.startswith(f"{number}.") for name in shard.keys())
                    images.append([shard.get_tensor(f"{number}.{depth}") for depth in range(depths)])
            except (OSError, SafetensorError) as error:
                raise DataError(
                    f"cannot read the teacher's features {file}: {error}; fill the cache"
                ) from error
        return [torch.stack(levels) for levels in zip(*images, strict=True)]

    def _begin(self) -> None:
        index = self.folder / INDEX
        if index.is_file():
            there = json.loads(index.read_text(encoding="utf-8"))
            differing = [name for name, value in self._identity.items() if there.get(name) != value]
            if differing:
                raise DataError(
                    f"{self.folder} holds features of another run: {differing[0]} is "
                    f"{there.get(differing[0])!r}, now {self._identity[differing[0]]!r}; give another folder"
                )
            return
        if self.folder.is_dir() and any(self.folder.iterdir()):
            raise DataError(f"{self.folder} is not empty and holds no features; give another folder")
        write_text(index, json.dumps(self._identity, indent=2) + "\n")

    def _file(self, shard: int) -> Path:
        return self.folder / f"features-{shard:05d}.safetensors"
