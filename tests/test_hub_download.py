"""Downloads against a Hub on the loopback interface."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import conceptseg as cs
from conceptseg.hub_download import HubUnreachableError, cached_repositories, open_repository
from tests.hub_server import FakeHub, FakeRepository

WEIGHTS = bytes(range(256)) * 4096  # 1 MiB


@pytest.fixture
def hub(loopback_hub: FakeHub) -> FakeHub:
    loopback_hub.repositories["me/tiny"] = FakeRepository(
        {"config.json": b"{}", "sub/weights.pt": WEIGHTS}, tags=("v1", "refs/pr/2")
    )
    return loopback_hub


def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def test_files_come_into_the_cache_and_are_not_fetched_twice(hub: FakeHub) -> None:
    repository = open_repository("me/tiny")
    assert repository.files == {"config.json", "sub/weights.pt"} and repository.cached is None
    folder = repository.fetch(["config.json", "sub/weights.pt"])
    assert (folder / "sub" / "weights.pt").read_bytes() == WEIGHTS
    assert folder.name == hub.repositories["me/tiny"].commit
    assert open_repository("me/tiny").fetch(["sub/weights.pt"]) == folder
    assert hub.ranges("weights.pt") == [None]


def test_a_revision_is_pinned(hub: FakeHub) -> None:
    repo = hub.repositories["me/tiny"]
    old = repo.commit
    folder = open_repository("me/tiny", old).fetch(["config.json"])
    for revision in ("v1", "refs/pr/2"):
        assert open_repository("me/tiny", revision).fetch(["config.json"]) == folder
    with pytest.raises(cs.ModelNotFoundError, match="me/tiny on the Hugging Face Hub has no revision 'v3'"):
        open_repository("me/tiny", "v3")
    repo.files["config.json"] = b"[]"
    assert open_repository("me/tiny").fetch(["config.json"]) != folder


def test_a_connection_that_breaks_is_taken_up_where_it_broke(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1 << 16)  # really 10 MB
    hub.repositories["me/tiny"].cut["sub/weights.pt"] = [300_000, 400_000]
    folder = open_repository("me/tiny").fetch(["sub/weights.pt"])
    assert (folder / "sub" / "weights.pt").read_bytes() == WEIGHTS
    assert hub.ranges("weights.pt") == [None, "bytes=262144-", "bytes=655360-"]  # whole chunks were kept


def test_a_download_that_failed_goes_on_with_the_file_that_was_in_flight(hub: FakeHub) -> None:
    repo = hub.repositories["me/tiny"]
    repo.status["sub/weights.pt"] = 503
    files = ["config.json", "sub/weights.pt"]
    with pytest.raises(
        HubUnreachableError, match=r"download of sub/weights.pt from me/tiny broke off"
    ) as caught:
        open_repository("me/tiny").fetch(files)
    assert "load it again: finished files are kept" in str(caught.value)
    repo.status.clear()
    folder = open_repository("me/tiny").fetch(files)
    assert (folder / "sub" / "weights.pt").read_bytes() == WEIGHTS
    assert hub.ranges("config.json") == [None]


def test_gated_repositories_say_how_to_get_access(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.repositories["me/tiny"].tokens = ("hf_granted",)
    with pytest.raises(
        cs.ModelNotFoundError, match="restricted: ask for it on https://huggingface.co/me/tiny"
    ):
        open_repository("me/tiny").fetch(["config.json"])
    monkeypatch.setenv("HF_TOKEN", "hf_waiting")
    with pytest.raises(cs.ModelNotFoundError, match="not let this account read me/tiny: ask for access on"):
        open_repository("me/tiny").fetch(["config.json"])
    monkeypatch.setenv("HF_TOKEN", "hf_granted")
    assert (open_repository("me/tiny").fetch(["config.json"]) / "config.json").read_bytes() == b"{}"
    assert hub.requests[-1][2]["authorization"] == "Bearer hf_granted"


@pytest.mark.parametrize("token", [None, "hf_some"])
def test_missing_repositories_are_named(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch, token: str | None
) -> None:
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    with pytest.raises(cs.ModelNotFoundError, match="the Hugging Face Hub has no repository 'me/gone'"):
        open_repository("me/gone")
    with pytest.raises(cs.ModelNotFoundError, match="'me/a--b' is no name of a repository"):
        open_repository("me/a--b")


def test_without_a_connection_the_cache_answers(hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = open_repository("me/tiny").fetch(["config.json"])
    commit = hub.repositories["me/tiny"].commit
    offline(monkeypatch)
    for revision in (None, "main", commit):
        copy = open_repository("me/tiny", revision)
        assert copy.cached == folder and copy.files == {"config.json"}
        assert copy.fetch(["config.json"]) == folder
    with pytest.raises(
        HubUnreachableError, match="HF_HUB_OFFLINE is set, and the cache holds no copy of me/x"
    ):
        open_repository("me/x")
    with pytest.raises(HubUnreachableError, match="no copy of me/tiny@v1"):
        open_repository("me/tiny", "v1")
    assert [(copy.title, copy.cached) for copy in cached_repositories()] == [("me/tiny", folder)]


def test_a_hub_that_is_down_is_told_apart_from_one_that_refuses(
    hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = open_repository("me/tiny").fetch(["config.json"])
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:1")
    assert open_repository("me/tiny").cached == folder
    with pytest.raises(
        HubUnreachableError, match=r"cannot be reached \(.*\), and the cache holds no copy of me/x"
    ):
        open_repository("me/x")


def test_a_cache_that_cannot_be_written_is_named(hub: FakeHub, tmp_path: Path) -> None:
    (tmp_path / "hub").write_text("a file in the place of the cache")
    with pytest.raises(cs.ModelNotFoundError, match="me/tiny cannot be put into the cache: .*hub"):
        open_repository("me/tiny").fetch(["config.json"])
    assert list(cached_repositories()) == []


def test_the_variables_of_a_new_process_are_honoured(hub: FakeHub, tmp_path: Path) -> None:
    hub.repositories["me/tiny"].tokens = ("hf_granted",)
    code = """
from conceptseg.hub_download import open_repository
print(open_repository("me/tiny").fetch(["config.json"]))
"""
    env = {**os.environ, "HF_HOME": str(tmp_path / "home"), "HF_TOKEN": "hf_granted"}
    for name in ("HF_HUB_CACHE", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        env.pop(name, None)

    def run(**more: str) -> Path:
        done = subprocess.run(
            [sys.executable, "-c", code], env={**env, **more}, check=True, capture_output=True, timeout=300
        )
        return Path(done.stdout.decode().strip())

    folder = run(HF_ENDPOINT=hub.url)
    assert folder.is_relative_to(tmp_path / "home" / "hub") and (folder / "config.json").is_file()
    asked = len(hub.requests)
    assert run(HF_ENDPOINT=hub.url, HF_HUB_OFFLINE="1") == folder
    assert len(hub.requests) == asked
