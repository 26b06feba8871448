"""Where the tokenizer of a lone checkpoint comes from."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from conceptseg.checkpoints import find_tokenizer as module
from conceptseg.checkpoints.find_tokenizer import SOURCE, check_vocabulary, find_tokenizer
from conceptseg.checkpoints.loaders import open_checkpoint
from conceptseg.errors import CheckpointError
from conceptseg.hub_download import open_repository
from tests.checkpoints.foreign_files import official_state, write_tokenizer
from tests.hub_server import FakeHub, FakeRepository
from tests.models.text.clip_files import learn, write_json, write_original, write_vocabulary
from tests.models.tiny import tiny_config

VOCABULARY, MERGES = learn(60)


@pytest.fixture
def hub(loopback_hub: FakeHub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeHub:
    """Serves a vocabulary that stands for CLIP's; no other package has one."""
    monkeypatch.setattr(module, "CLIP_SIZE", len(VOCABULARY))
    monkeypatch.setattr(module, "PACKAGES", ())
    folder = tmp_path / "served"
    folder.mkdir()
    write_json(folder, VOCABULARY, MERGES)
    write_vocabulary(folder, VOCABULARY, MERGES)
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    loopback_hub.repositories[SOURCE] = FakeRepository({**files, "model.safetensors": b"weights"})
    return loopback_hub


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    folder = tmp_path / "weights"
    folder.mkdir()
    (folder / "sam3.pt").touch()
    return folder / "sam3.pt"


def go_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)


def test_the_one_beside_the_checkpoint_is_taken_first(hub: FakeHub, checkpoint: Path) -> None:
    write_original(checkpoint.parent, MERGES[:10])  # another size: this one was chosen by the user
    for path in (checkpoint, checkpoint.parent, str(checkpoint)):
        tokenizer = find_tokenizer(path, context_length=16)
        assert tokenizer.vocab_size == 2 * 256 + 10 + 2 and tokenizer.context_length == 16
    assert hub.requests == []


def test_it_is_downloaded_once_and_then_comes_from_the_cache(
    hub: FakeHub, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_tokenizer(checkpoint, 32).vocab_size == len(VOCABULARY)
    assert not hub.ranges("model.safetensors") and hub.ranges("tokenizer.json") == [None]
    asked = len(hub.requests)
    assert find_tokenizer(checkpoint, 32)(["red circle"]).shape == (1, 32)
    assert len(hub.requests) == asked
    go_offline(monkeypatch)
    assert find_tokenizer(checkpoint, 32).vocab_size == len(VOCABULARY)


@pytest.mark.parametrize("files", [["tokenizer.json"], ["vocab.json", "merges.txt"]])
def test_that_of_another_cached_model_will_do(hub: FakeHub, checkpoint: Path, files: list[str]) -> None:
    hub.repositories["facebook/sam3"] = hub.repositories.pop(SOURCE)
    open_repository("facebook/sam3").fetch(files)
    asked = len(hub.requests)
    assert find_tokenizer(checkpoint, 32).vocab_size == len(VOCABULARY)
    assert len(hub.requests) == asked


@pytest.mark.parametrize("place", ["open_clip", "sam3/assets", "assets"])
def test_that_of_an_installed_package_will_do_and_imports_nothing(
    hub: FakeHub, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, place: str
) -> None:
    package = tmp_path / "site" / ("open_clip" if place == "open_clip" else "sam3")
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (tmp_path / "site" / place).mkdir(parents=True, exist_ok=True)
    write_original(tmp_path / "site" / place, MERGES)
    monkeypatch.setattr(module, "PACKAGES", (package.name,))
    monkeypatch.syspath_prepend(tmp_path / "site")
    assert find_tokenizer(checkpoint, 32).vocab_size == len(VOCABULARY)
    assert hub.requests == []


def test_half_a_cached_vocabulary_is_passed_over(hub: FakeHub, checkpoint: Path) -> None:
    open_repository(SOURCE).fetch(["vocab.json"])
    assert find_tokenizer(checkpoint, 32).vocab_size == len(VOCABULARY)
    assert hub.ranges("tokenizer.json") == [None]


def test_without_any_one_error_says_what_to_put_where(
    hub: FakeHub, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_offline(monkeypatch)
    with pytest.raises(CheckpointError) as caught:
        find_tokenizer(checkpoint, 32)
    message = str(caught.value)
    assert message.startswith(f"{checkpoint} needs CLIP's tokenizer") and "\n" not in message
    assert "HF_HUB_OFFLINE is set" in message
    assert f"vocab.json and merges.txt, or bpe_simple_vocab_16e6.txt.gz into {checkpoint.parent}" in message


def test_a_damaged_one_beside_the_checkpoint_is_not_passed_over(hub: FakeHub, checkpoint: Path) -> None:
    (checkpoint.parent / "tokenizer.json").write_text("{")
    with pytest.raises(CheckpointError, match="cannot read the tokenizer"):
        find_tokenizer(checkpoint, 32)
    assert hub.requests == []


def test_a_vocabulary_of_another_size_is_not_taken_for_clips(
    hub: FakeHub, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "CLIP_SIZE", 49408)
    with pytest.raises(CheckpointError, match="should hold CLIP's tokenizer of 49408 tokens"):
        find_tokenizer(checkpoint, 32)


@pytest.mark.parametrize(("rows", "tokens"), [(49408, 49407), (49408, 49409), (300, 301)])
def test_a_tokenizer_that_is_not_the_text_encoders_is_refused(rows: int, tokens: int) -> None:
    tokenizer = SimpleNamespace(vocab_size=tokens)
    with pytest.raises(CheckpointError, match=f"tokenizer of here has {tokens} tokens, .* knows {rows}"):
        check_vocabulary(tokenizer, rows, "here")  # type: ignore[arg-type]
    check_vocabulary(SimpleNamespace(vocab_size=rows), rows, "here")  # type: ignore[arg-type]


def test_a_model_of_clips_rows_with_a_small_tokenizer_does_not_load(tmp_path: Path) -> None:
    config = tiny_config(text={"heads": 1, "vocab_size": 49408})
    torch.save(official_state(config), tmp_path / "sam3.pt")
    write_tokenizer(tmp_path)
    with pytest.raises(CheckpointError, match="tokens, the text encoder knows 49408"):
        open_checkpoint(tmp_path / "sam3.pt").tokenizer()
