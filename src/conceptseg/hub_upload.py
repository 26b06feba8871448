"""A model folder -> a repository on the Hugging Face Hub; `hub_download.py` is the way back."""

from __future__ import annotations

import shutil
from pathlib import Path

from conceptseg.checkpoints.config_file import is_onnx_folder
from conceptseg.checkpoints.folder import FILES, UNUSED_FILE, open_model_folder
from conceptseg.checkpoints.model_card import CARD, write_card
from conceptseg.checkpoints.onnx_folder import read_onnx_config
from conceptseg.errors import CheckpointError, OptionError
from conceptseg.hub import HUB_ID, from_hub
from conceptseg.hub_download import asking_hub


def push_model(folder: str | Path, repo: str, private: bool = False, message: str = "") -> str:
    """Upload a model, so that `cs.load(repo)` gives it; the repository is made if there is none.

    Args:
        folder: of a model, ours or an exported one. Without a card it gets one.
        repo: "owner/name".
        private: of a repository that is made now.
        message: of the commit.

    Returns:
        The address of the repository.

    Raises:
        CheckpointError: no model folder, or a damaged one.
        OptionError: not the name of a repository.
        MissingDependencyError: `huggingface_hub` is not installed.
        ModelNotFoundError: the Hub cannot be asked, or refuses.
    """
    folder = Path(folder)
    match = HUB_ID.match(repo)
    if match is None or match["revision"] or match["file"]:
        raise OptionError(f"{repo!r} is no name of a repository; give owner/name")
    if not folder.is_dir():
        raise CheckpointError(f"{folder} is no model folder")
    if is_onnx_folder(folder):
        read_onnx_config(folder)
        wanted = ["*.onnx", "*.onnx.data", "config.json", "tokenizer.json", CARD]
    else:
        write_card(folder, open_model_folder(folder).config)
        wanted = [*FILES, UNUSED_FILE, CARD]
    with asking_hub(repo) as hub:
        api = hub.HfApi()
        made = api.create_repo(repo, private=private, exist_ok=True)
        api.upload_folder(
            repo_id=repo,
            folder_path=folder,
            allow_patterns=wanted,
            commit_message=message or "Upload a model of conceptseg",
        )
    return str(made)


def pull_model(repo: str, folder: str | Path) -> Path:
    """Bring a model from the Hub into a folder of one's own.

    Args:
        repo: "owner/name", "owner/name@revision".
        folder: made; it must not hold anything yet.

    Raises:
        OptionError: not the name of a repository, or the folder is in use.
        ModelNotFoundError, CheckpointError: as `find_model`.
    """
    folder = Path(folder)
    match = HUB_ID.match(repo)
    if match is None:
        raise OptionError(f"{repo!r} is no name of a repository; give owner/name")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OptionError(f"{folder} is in use; give a folder that does not exist yet")
    source = from_hub(match["repo"], match["revision"], match["file"])
    part = folder.with_name(f".{folder.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    if source.is_file():
        part.mkdir(parents=True)
        shutil.copy(source, part / source.name)
    else:
        shutil.copytree(source, part)  # the cache's links become files
    if folder.exists():
        folder.rmdir()
    part.rename(folder)
    return folder
