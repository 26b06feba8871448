"""A model's name -> where its files are: embedded in the package, on this disk, or on the Hugging Face Hub.

In this order: the name of an embedded model ("nano"), a path that exists, a Hub id ("owner/name", or
"owner/name@revision"). A folder of your own that is called like an embedded model is "./nano".
"""

from __future__ import annotations

import difflib
import os
import re
from importlib.resources import files
from pathlib import Path

from conceptseg.checkpoints.folder import FILES, read_config
from conceptseg.errors import CheckpointError, MissingDependencyError, ModelNotFoundError, OptionError

HUB_ID = re.compile(r"^(?P<repo>[\w-][\w.-]*/[\w.-]+)(@(?P<revision>[\w./-]+))?$", re.ASCII)
FILE_SUFFIXES = (".pt", ".pth", ".bin", ".safetensors", ".onnx", ".json")


def available_models() -> list[str]:
    """Names of the models that come with the package, sorted."""
    folder = _embedded_folder()
    if not folder.is_dir():
        return []
    return sorted(entry.name for entry in folder.iterdir() if (entry / "config.json").is_file())


def find_model(name: str | os.PathLike[str]) -> Path:
    """Where the files of a model are; downloads and caches them when they are on the Hub.

    Args:
        name: embedded name, path, or Hub id.

    Raises:
        ModelNotFoundError: there is no such model; the message lists what there is.
        CheckpointError: the Hub has it, in a layout that this version does not read; found out before the
            download.
    """
    if not isinstance(name, (str, os.PathLike)):
        raise OptionError(f"a model is named by text or a path; got {type(name).__name__}")
    text = os.fspath(name)
    if isinstance(name, str) and name in available_models():
        return _embedded_folder() / name
    path = Path(text).expanduser()
    if text and _exists(path):
        return path
    hub_id = HUB_ID.match(text)
    if isinstance(name, str) and hub_id and not text.endswith(FILE_SUFFIXES):
        return _download(hub_id["repo"], hub_id["revision"])
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
        "or a Hugging Face repository such as 'owner/name'"
    )


def _download(repo: str, revision: str | None) -> Path:
    try:
        import huggingface_hub as hub
        from huggingface_hub import errors
    except ImportError as error:
        raise MissingDependencyError(
            f"loading {repo!r} from the Hub needs huggingface_hub: pip install huggingface_hub"
        ) from error
    try:
        # The config is small: look at it before gigabytes are on their way.
        read_config(Path(hub.hf_hub_download(repo, "config.json", revision=revision)))
        return Path(hub.snapshot_download(repo, revision=revision, allow_patterns=list(FILES)))
    except CheckpointError as error:
        raise CheckpointError(
            f"the Hugging Face repository {repo} is in no layout that this version reads; "
            f"it reads repositories with {', '.join(FILES)} written by conceptseg"
        ) from error
    except errors.GatedRepoError as error:
        raise ModelNotFoundError(
            f"access to {repo} on the Hugging Face Hub is restricted: ask on https://huggingface.co/{repo}, "
            "then log in with `hf auth login` or set HF_TOKEN"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ModelNotFoundError(f"{repo} on the Hugging Face Hub has no revision {revision!r}") from error
    except errors.LocalEntryNotFoundError as error:  # also a missing entry, so before EntryNotFoundError
        raise ModelNotFoundError(
            f"no folder {repo!r} here, and the Hugging Face Hub cannot be reached (or HF_HUB_OFFLINE is set) "
            f"and has left no copy in the cache. {_what_there_is()}"
        ) from error
    except errors.EntryNotFoundError as error:
        raise CheckpointError(
            f"the Hugging Face repository {repo} has no config.json, so this version cannot read it"
        ) from error
    except errors.RepositoryNotFoundError as error:
        raise ModelNotFoundError(
            f"no folder {repo!r} here and no such repository on the Hugging Face Hub (a private one needs "
            f"`hf auth login` or HF_TOKEN). {_what_there_is()}"
        ) from error
    except (errors.HFValidationError, errors.HfHubHTTPError, OSError) as error:
        first_line = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelNotFoundError(
            f"{repo} could not be fetched from the Hugging Face Hub: {first_line}"
        ) from error
