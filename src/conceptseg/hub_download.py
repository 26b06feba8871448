"""A repository on the Hugging Face Hub -> files in the local cache, or one error that says what to do.

The work is `huggingface_hub`'s: HF_HOME and its cache, HF_TOKEN and stored logins, HF_ENDPOINT,
HF_HUB_OFFLINE, progress bars, finished files kept when a download breaks off. When the Hub cannot be asked,
the cached copy answers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from conceptseg.errors import CheckpointError, ConceptSegError, MissingDependencyError, ModelNotFoundError
from conceptseg.unstable import hub_failures


class NoRepositoryError(ModelNotFoundError):
    """The Hub has no such repository, or does not show it to this user."""


class HubUnreachableError(ModelNotFoundError):
    """The Hub cannot be asked, and the cache cannot answer in its place."""


@dataclass(frozen=True)
class Repository:
    """One revision of a repository, as the Hub or the cache lists it."""

    name: str  # "owner/name"
    revision: str | None  # branch, tag or commit; None: the main branch
    files: frozenset[str]
    cached: Path | None = None  # the copy that answers because the Hub did not

    @property
    def title(self) -> str:
        return self.name if self.revision is None else f"{self.name}@{self.revision}"

    def fetch(self, names: Iterable[str]) -> Path:
        """Bring files into the cache, unless they are there already.

        Returns:
            The folder under which they lie by their names.

        Raises:
            ModelNotFoundError: access is restricted, or the download broke off.
            CheckpointError: the repository changed meanwhile.
        """
        names = list(names)
        if self.cached is not None:
            return self.cached
        folder = Path()
        for name in names:
            folder = self._download(name)
        gone = [name for name in names if not (folder / name).is_file()]
        if gone:
            raise CheckpointError(
                f"{self.title} on the Hugging Face Hub got a new version during the download; load it again"
            )
        return folder

    def _download(self, name: str) -> Path:
        hub = _library()
        try:
            path = Path(hub.hf_hub_download(self.name, name, revision=self.revision))
        except _failures() as error:
            told = _explain(error, self.title)
            if not isinstance(told, HubUnreachableError):
                raise told from error
            raise HubUnreachableError(
                f"the download of {name} from {self.title} broke off ({_first_line(error)}); "
                "load it again: finished files are kept"
            ) from error
        return path.parents[len(PurePosixPath(name).parts) - 1]


def open_repository(name: str, revision: str | None = None) -> Repository:
    """Look at what a repository holds.

    Args:
        name: "owner/name".
        revision: branch, tag or commit; None: the main branch.

    Raises:
        ModelNotFoundError: no such revision; or there is no such repository, access is restricted, or the
            Hub cannot be asked, and the cache has no copy.
    """
    hub = _library()
    try:
        patience = hub.constants.HF_HUB_ETAG_TIMEOUT  # seconds; the library itself would wait for ever
        listed = hub.HfApi().model_info(name, revision=revision, timeout=patience)
    except _failures() as error:
        told = _explain(error, name if revision is None else f"{name}@{revision}")
        if not isinstance(error, hub.errors.RevisionNotFoundError):
            for copy in cached_repositories():
                if copy.name == name and _is_revision(copy, revision):
                    return copy
        raise told from error
    return Repository(name, revision, frozenset(file.rfilename for file in listed.siblings or ()))


def cached_repositories() -> Iterator[Repository]:
    """Every revision of a model repository that has left files in the cache, by name; newest first."""
    hub = _library()
    try:
        cache = hub.scan_cache_dir(hub.constants.HF_HUB_CACHE)
    except (hub.errors.CacheNotFound, ValueError):  # ValueError: a file stands in the place of the cache
        return
    for repo in sorted(cache.repos, key=lambda repo: repo.repo_id):
        if repo.repo_type != "model":
            continue
        for copy in sorted(repo.revisions, key=lambda copy: -copy.last_modified):
            folder = Path(copy.snapshot_path)
            files = frozenset(Path(file.file_path).relative_to(folder).as_posix() for file in copy.files)
            names = sorted(copy.refs, key=lambda ref: (ref != "main", ref)) or [copy.commit_hash]
            for name in names:
                yield Repository(repo.repo_id, None if name == "main" else name, files, folder)


def cached_file(name: str, file: str) -> Path | None:
    """A file of the main branch of a repository, if it is in the cache; asks nobody."""
    path = _library().try_to_load_from_cache(name, file)
    return Path(path) if isinstance(path, str) else None


@contextmanager
def asking_hub(repo: str) -> Iterator[Any]:
    """The library, for what changes a repository; its errors in words that say what to do.

    Raises:
        MissingDependencyError: `huggingface_hub` is not installed.
        ModelNotFoundError: the Hub cannot be asked, or refuses.
    """
    hub = _library()
    try:
        yield hub
    except _failures() as error:
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 403):
            raise ModelNotFoundError(
                f"the Hugging Face Hub does not let this account write {repo}: log in with `hf auth "
                "login` or set HF_TOKEN, with a token that may write"
            ) from error
        if isinstance(error, hub.errors.OfflineModeIsEnabled):
            raise HubUnreachableError(f"HF_HUB_OFFLINE is set; nothing was written to {repo}") from error
        raise HubUnreachableError(f"{repo} was not written: {_first_line(error)}") from error


def _is_revision(copy: Repository, revision: str | None) -> bool:
    if revision in (None, "main"):
        return copy.revision is None
    return copy.revision == revision or (copy.cached is not None and copy.cached.name == revision)


def _library() -> Any:
    try:
        import huggingface_hub
        import huggingface_hub.constants
        import huggingface_hub.errors
    except ImportError as error:
        raise MissingDependencyError(
            "loading from the Hugging Face Hub needs huggingface_hub: pip install huggingface_hub"
        ) from error
    return huggingface_hub


def _failures() -> tuple[type[Exception], ...]:
    """What a call of the library may raise."""
    errors = _library().errors
    return (
        *hub_failures(errors),
        errors.HFValidationError,
        errors.EntryNotFoundError,
        OSError,
    )


def _explain(error: Exception, title: str) -> ConceptSegError:
    """The library's error in words that say what to do."""
    errors = _library().errors
    # Said when a file is neither there nor in the cache; the reason is what the Hub answered.
    if isinstance(error, errors.LocalEntryNotFoundError) and isinstance(error.__cause__, Exception):
        return _explain(error.__cause__, title)
    status = getattr(getattr(error, "response", None), "status_code", None)
    repo, _, revision = title.partition("@")
    page = f"https://huggingface.co/{repo}"
    if status == 403:
        return ModelNotFoundError(
            f"the Hugging Face Hub does not let this account read {repo}: ask for access on {page} and wait "
            "until it is granted; if it was, the token lacks the permission to read gated repositories"
        )
    if isinstance(error, errors.GatedRepoError):
        return ModelNotFoundError(
            f"access to {repo} on the Hugging Face Hub is restricted: ask for it on {page}, then log in with "
            "`hf auth login` or set HF_TOKEN"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return ModelNotFoundError(f"{repo} on the Hugging Face Hub has no revision {revision!r}")
    if isinstance(error, errors.RepositoryNotFoundError):
        return NoRepositoryError(
            f"the Hugging Face Hub has no repository {repo!r} (a private one needs `hf auth login` or "
            "HF_TOKEN)"
        )
    if status == 401:
        return ModelNotFoundError(
            f"the Hugging Face Hub refuses the token that was sent for {repo}: log in again with "
            "`hf auth login`, or mend or unset HF_TOKEN"
        )
    if isinstance(error, errors.HFValidationError):
        return NoRepositoryError(f"{repo!r} is no name of a repository: {_first_line(error)}")
    if isinstance(error, errors.OfflineModeIsEnabled):
        return HubUnreachableError(f"HF_HUB_OFFLINE is set, and the cache holds no copy of {title}")
    if isinstance(error, OSError) and error.errno is not None:  # of this machine: disk full, not allowed
        return ModelNotFoundError(f"{title} cannot be put into the cache: {_first_line(error)}")
    return HubUnreachableError(
        f"the Hugging Face Hub cannot be reached ({_first_line(error)}), and the cache holds no copy of "
        f"{title}"
    )


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".:")
