"""`.pt` and `.pth` files: pickles, which can hold programs, opened so that none can run.

`torch.load(weights_only=True)` makes nothing but tensors and plain containers. What it would not notice is
looked at before: files that are something else by another name, and archives that unpack to more than they
are. What it read is looked at afterwards: tensors whose values are not in the file.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from conceptseg.checkpoints.page_release import release_pages
from conceptseg.checkpoints.weights import Weights
from conceptseg.errors import CheckpointError
from conceptseg.unstable import what_would_run

# Where training code puts the weights among other things, in this order.
NESTED_UNDER = ("model", "state_dict", "model_state_dict")
ZIP, OLD_PICKLE = b"PK\x03\x04", b"\x80\x02"
NOT_WEIGHTS = {
    b"version https://git-lfs": "a Git LFS pointer and not the file itself; fetch it with `git lfs pull`",
    b"<": "a web page; was it saved in place of the file?",
    b"\x89HDF": "an HDF5 file",
}


def open_torch(path: Path) -> tuple[Weights, str]:
    """The tensors of one file, memory-mapped when they can be used as they are.

    Returns:
        The tensors, and the name under which they were nested ("" when they were not).

    Raises:
        CheckpointError: not such a file, damaged, or asking to run code; nothing of it has been run.
    """
    zipped = _check_container(path)
    state, nested = _state_dict(_load(path, mapped=zipped), path)
    half = any(t.is_floating_point() and t.dtype != torch.float32 for t in state.values())
    if zipped and half:
        # These will be copied into another number type. Out of a mapping, both copies would stay in memory.
        state, nested = _state_dict(_load(path, mapped=False), path)
    elif zipped:
        return Weights(state, _releases(state)), nested
    return Weights(state), nested


def _check_container(path: Path) -> bool:
    """Whether the file is a zip archive, as `torch.save` writes since 1.6; refuses all that is neither.

    Raises:
        CheckpointError: not by `torch.save`, truncated, or an archive that unpacks to more than it is.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(64)
        if start.startswith(OLD_PICKLE):
            return False
        if not start.startswith(ZIP):
            what = next(
                (said for magic, said in NOT_WEIGHTS.items() if start.lstrip().startswith(magic)), None
            )
            what = what or ("empty" if size == 0 else "no file that torch.save wrote")
            raise CheckpointError(f"{path} is {what}")
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise CheckpointError(f"cannot read {path}: {error}; is the file complete?") from error
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries) or (
        sum(entry.file_size for entry in entries) > size
    ):
        raise CheckpointError(
            f"{path} is an archive that unpacks to more than its {size:,} bytes; torch.save writes no such "
            "file, so it was not opened"
        )
    names = {entry.filename.rpartition("/")[2] for entry in entries}
    if "constants.pkl" in names:
        raise CheckpointError(f"{path} is a TorchScript program; give the weights it was made from")
    if "data.pkl" not in names:
        raise CheckpointError(f"{path} is a zip archive, but none that torch.save wrote")
    return True


def _load(path: Path, mapped: bool) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about how the file was written; what matters is checked below
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:  # a damaged pickle can raise anything
        asked = what_would_run(error)
        if asked is not None:
            raise CheckpointError(
                f"{path} holds more than tensors: opening it would run {asked}. It was refused and "
                "nothing was run; save the weights alone, with torch.save(model.state_dict(), path)"
            ) from error
        message = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise CheckpointError(f"cannot read {path}: {message}; is the file complete?") from error


def _state_dict(content: Any, path: Path) -> tuple[dict[str, Tensor], str]:
    nested = ""
    if isinstance(content, Mapping):
        nested = next((n for n in NESTED_UNDER if isinstance(content.get(n), Mapping)), "")
    state = content[nested] if nested else content
    if not isinstance(state, Mapping) or not any(isinstance(value, Tensor) for value in state.values()):
        holds = (
            ", ".join(str(key) for key in list(state)[:5])
            if isinstance(state, Mapping)
            else type(state).__name__
        )
        raise CheckpointError(f"{path} holds no named tensors; it holds {holds or 'nothing'}")
    for name, value in state.items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise CheckpointError(
                f"{path}: {name} is {type(value).__name__}, and weights are tensors with names"
            )
        _check_tensor(value, f"{path}: {name}")
    return {name: value.detach() for name, value in state.items()}, nested


def _releases(state: Mapping[str, Tensor]) -> Callable[[str], None]:
    """Gives back the memory of a mapped tensor by name; one that shares it is read from the file again."""
    mapped = dict(state)
    return lambda name: release_pages(mapped.pop(name))


def _check_tensor(value: Tensor, where: str) -> None:
    """Refuse tensors that are not simply values in memory: a small file can describe a huge one of those."""
    if value.layout != torch.strided or value.is_quantized or value.device.type != "cpu":
        raise CheckpointError(
            f"{where} is a {value.device.type} tensor of layout {value.layout}; save plain tensors"
        )
    if value.numel() * value.element_size() > value.untyped_storage().nbytes():
        raise CheckpointError(
            f"{where} claims the shape {tuple(value.shape)}, but the file has no values for that"
        )
