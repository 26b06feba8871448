"""Safetensors files, single or in shards, mapped into memory.

`safetensors` itself checks the file; the mapping is ours, because only the owner of a mapping can give back
the memory of tensors that have been copied out of it.
"""

from __future__ import annotations

import json
import mmap
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from conceptseg.checkpoints.weights import Weights
from conceptseg.errors import CheckpointError

INDEX_SUFFIX = ".safetensors.index.json"
DTYPES = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
    "C64": torch.complex64,
}


def open_safetensors(path: Path) -> Weights:
    """The tensors of one file; changes to them stay in memory.

    Raises:
        CheckpointError: missing, damaged, or with a header that does not fit the rest.
    """
    try:
        with safe_open(path, framework="pt"):
            pass  # opening checks that the header is sound and describes every byte
        with path.open("rb") as file:
            mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(f"cannot read {path}: {error}; is the file complete?") from error
    start = 8 + int.from_bytes(mapping[:8], "little")
    header = json.loads(mapping[8:start])
    header.pop("__metadata__", None)
    tensors = {name: _tensor(mapping, start, entry, f"{path}: {name}") for name, entry in header.items()}

    def release(name: str) -> None:
        begin, end = header[name]["data_offsets"]
        # Whole pages only: neighbours share the first and the last. They come back from the file when read.
        first, last = -(-(start + begin) // mmap.PAGESIZE), (start + end) // mmap.PAGESIZE
        if first < last and hasattr(mmap, "MADV_DONTNEED"):  # not on Windows
            mapping.madvise(mmap.MADV_DONTNEED, first * mmap.PAGESIZE, (last - first) * mmap.PAGESIZE)

    return Weights(tensors, release)


def open_shards(index: Path) -> Weights:
    """The tensors of all files that a `model.safetensors.index.json` names.

    Raises:
        CheckpointError: the index or a file is missing or damaged, or they disagree.
    """
    try:
        places = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
        names = {str(key): str(file) for key, file in places.items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise CheckpointError(f"cannot read {index}: it holds no weight_map ({error})") from error
    weights = Weights({})
    for name in sorted(set(names.values())):
        shard = index.parent / name
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise CheckpointError(f"{index} names {name!r}; shards are safetensors files beside it")
        if not shard.is_file():
            raise CheckpointError(
                f"{index.parent} has no {name}, which its index names; is the download complete?"
            )
        weights.add(open_safetensors(shard), str(index.parent))
    absent = sorted(set(names) - set(weights))
    if absent:
        raise CheckpointError(f"{index} names {absent[0]}, which is not in {names[absent[0]]}")
    return weights


def _tensor(mapping: mmap.mmap, start: int, entry: dict[str, Any], where: str) -> Tensor:
    shape, offsets, kind = entry["shape"], entry["data_offsets"], entry["dtype"]
    if kind not in DTYPES:
        raise CheckpointError(f"{where} has number type {kind}, which is not read here")
    dtype = DTYPES[kind]
    begin, end = start + offsets[0], start + offsets[1]
    if begin == end:
        return torch.empty(shape, dtype=dtype)
    if begin % dtype.itemsize:  # possible after a tensor of bytes; the processor wants whole steps
        data = torch.frombuffer(bytearray(mapping[begin:end]), dtype=dtype)
    else:
        data = torch.frombuffer(mapping, dtype=dtype, count=(end - begin) // dtype.itemsize, offset=begin)
    return data.reshape(shape)
