"""A model's name -> where its files are: embedded in the package, on this disk, or on the Hugging Face Hub.

In this order: the name of an embedded model ("nano"), a path that exists, a Hub id: "owner/name",
"owner/name@revision", and behind either ":file.pt" for one checkpoint of several. A folder of your own that
is called like an embedded model is "./nano".
"""

from __future__ import annotations

import difflib
import os
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

from conceptseg.checkpoints.config_file import CONFIG, MODEL_FORMAT, read_any_config, read_config
from conceptseg.errors import CheckpointError, ModelNotFoundError, OptionError
from conceptseg.hub_download import (
    HubUnreachableError,
    NoRepositoryError,
    Repository,
    cached_repositories,
    open_repository,
)
from conceptseg.hub_files import ModelFiles, model_files, single_checkpoints

HUB_ID = re.compile(
    r"^(?P<repo>[\w-][\w.-]*/[\w.-]+)(@(?P<revision>[\w./-]+))?(:(?P<file>[^:\n]+))?$", re.ASCII
)
FILE_SUFFIXES = (".pt", ".pth", ".bin", ".safetensors", ".onnx", ".json")


def available_models() -> list[str]:
    """Names of the models that come with the package, sorted."""
    folder = _embedded_folder()
    if not folder.is_dir():
        return []
    return sorted(entry.name for entry in folder.iterdir() if (entry / CONFIG).is_file())


def find_model(name: str | os.PathLike[str]) -> Path:
    """Where the files of a model are; downloads and caches them when they are on the Hub.

    Args:
        name: embedded name, path, or Hub id.

    Raises:
        ModelNotFoundError: there is no such model; the message lists what there is.
        CheckpointError: the Hub has it, in a layout that this version does not read, or with several
            checkpoints of which none was named; found out before the download.
    """
    here = local_model(name)
    if here is not None:
        return here
    text = os.fspath(name)
    hub_id = HUB_ID.match(text)
    if isinstance(name, str) and hub_id and (hub_id["file"] or not text.endswith(FILE_SUFFIXES)):
        return from_hub(hub_id["repo"], hub_id["revision"], hub_id["file"])
    if (
        not isinstance(name, str)
        or os.sep in text
        or text.startswith((".", "~"))
        or text.endswith(FILE_SUFFIXES)
    ):
        raise ModelNotFoundError(f"no model at {text!r}: there is no such file or folder. {_what_there_is()}")
    close = difflib.get_close_matches(text, available_models(), n=1)
    shown = text if len(text) <= 100 else f"{text[:100]}..."
    raise ModelNotFoundError(
        f"unknown model {shown!r}{f'; did you mean {close[0]!r}?' if close else '.'} {_what_there_is()}"
    )


def local_model(name: str | os.PathLike[str]) -> Path | None:
    """Where a model is that needs no download, by its embedded name or its path; None: there is none here.

    Raises:
        OptionError: neither text nor a path.
    """
    if not isinstance(name, (str, os.PathLike)):
        raise OptionError(f"a model is named by text or a path; got {type(name).__name__}")
    text = os.fspath(name)
    if isinstance(name, str) and name in available_models():
        return _embedded_folder() / name
    path = Path(text).expanduser()
    return path if text and _exists(path) else None


def _embedded_folder() -> Path:
    return Path(str(files("conceptseg"))) / "weights"


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except (OSError, ValueError):  # a name that no file can have
        return False


def _what_there_is() -> str:
    embedded = ", ".join(available_models()) or "none in this installation"
    return (
        f"A model is an embedded one ({embedded}), the path of a model folder, "
        "or a Hugging Face repository such as 'owner/name', or 'owner/name:file.pt' for one of its files"
    )


def from_hub(repo: str, revision: str | None, checkpoint: str | None) -> Path:
    try:
        repository = open_repository(repo, revision)
    except NoRepositoryError as error:
        raise ModelNotFoundError(
            f"{error}, and there is no folder {repo!r} here. {_what_there_is()}"
        ) from error
    except HubUnreachableError as error:
        raise ModelNotFoundError(
            f"{error}; nor is there a folder {repo!r} here. {_what_is_cached()}"
        ) from error
    chosen = _choose(repository, checkpoint)
    folder = repository.fetch(chosen.names)
    return folder if chosen.checkpoint is None else folder / chosen.checkpoint


def _choose(repository: Repository, checkpoint: str | None) -> ModelFiles:
    """The config is small: look at it before gigabytes are on their way."""
    config: dict[str, Any] | None = None
    try:
        if checkpoint is None and CONFIG in repository.files:
            folder = repository.fetch([CONFIG])
            config = read_any_config(folder)
            if config is not None and config.get("format") == MODEL_FORMAT:
                read_config(folder)
        return model_files(repository.title, repository.files, config, checkpoint)
    except CheckpointError as error:
        if repository.cached is None:
            raise
        raise CheckpointError(
            f"{error}. This is the copy in the cache, which may be incomplete; the Hub itself was not reached"
        ) from error


def _what_is_cached() -> str:
    """The models that can be loaded all the same."""
    names = [name for copy in cached_repositories() for name in _models_in(copy)]
    there = f"In the cache are {', '.join(names)}. " if names else "The cache holds no model. "
    return there + _what_there_is()


def _models_in(copy: Repository) -> list[str]:
    """Names under which a cached copy can be loaded."""
    try:
        _choose(copy, None)
        return [copy.title]
    except CheckpointError:  # another model, an incomplete one, or several checkpoints
        has_config = CONFIG in copy.files
        return [f"{copy.title}:{file}" for file in single_checkpoints(copy.files, has_config)]
