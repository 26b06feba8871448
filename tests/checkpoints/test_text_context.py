"""How many tokens a MobileCLIP text encoder reads: given, told by a name, or as many as it has positions."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch

import conceptseg as cs
from conceptseg.checkpoints.convert import convert
from conceptseg.checkpoints.efficientsam3 import efficientsam3_table
from conceptseg.checkpoints.loaders import load_checkpoint, open_checkpoint
from conceptseg.checkpoints.text_context import context_in_name
from conceptseg.errors import OptionError
from conceptseg.models.config import MobileClipTextConfig
from tests.checkpoints.foreign_files import CONFIG, official_state, write_tokenizer

ROWS = 12
LITE_TEXT = dataclasses.replace(
    CONFIG,
    text=MobileClipTextConfig(
        vocab_size=300, context_length=ROWS, positions=ROWS, width=24, depth=2, heads=1, mlp_width=48
    ),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same file of weights under two names, beside a tokenizer."""
    folder = tmp_path_factory.mktemp("litetext")
    write_tokenizer(folder)
    state = official_state(LITE_TEXT, "detector.", efficientsam3_table(None, mobileclip=True))
    torch.save({"model": state}, folder / "litetext.pt")
    torch.save({"model": state}, folder / "sam3_litetext_mobileclip_s0_ctx6.pt")
    return folder


def text_of(path: Path, text_context: int | None = None) -> MobileClipTextConfig:
    text = open_checkpoint(path, text_context=text_context).config.architecture.text
    assert isinstance(text, MobileClipTextConfig)
    return text


@pytest.mark.parametrize(
    ("name", "context"),
    [
        ("sam3_litetext_mobileclip_s0_ctx16.pt", 16),
        ("ES_EV_M_CTX32", 32),
        ("ctx77", 77),
        ("sam3.pt", None),
        ("vctx16.pt", None),
        ("ctxt16.pt", None),
    ],
)
def test_the_name_of_a_released_file_says_its_context(name: str, context: int | None) -> None:
    assert context_in_name(name) == context


def test_what_is_given_counts_more_than_the_name_and_the_name_more_than_the_positions(folder: Path) -> None:
    plain, named = folder / "litetext.pt", folder / "sam3_litetext_mobileclip_s0_ctx6.pt"
    assert [text_of(plain).context_length, text_of(named).context_length] == [ROWS, 6]
    assert [text_of(plain, 5).context_length, text_of(named, 5).context_length] == [5, 5]
    assert text_of(named).rows == ROWS


def test_a_name_that_tells_an_impossible_context_tells_nothing(folder: Path, tmp_path: Path) -> None:
    write_tokenizer(tmp_path)
    (tmp_path / "lite_ctx77.pt").write_bytes((folder / "litetext.pt").read_bytes())
    assert text_of(tmp_path / "lite_ctx77.pt").context_length == ROWS


def test_phrases_are_padded_to_the_context_and_the_first_positions_are_read(folder: Path) -> None:
    whole, words, _ = load_checkpoint(folder / "litetext.pt")
    short, fewer, _ = load_checkpoint(folder / "litetext.pt", text_context=6)
    assert words(["coin"]).shape == (1, ROWS) and fewer(["coin"]).shape == (1, 6)
    with torch.no_grad():
        tokens = short.text_encoder(fewer(["coin"])).tokens
        padded = whole.text_encoder(words(["coin"])).tokens
        # The encoder of 12 tokens, of which the last 6 positions are taken away.
        whole.text_encoder.position_embedding = torch.nn.Parameter(short.text_encoder.position_embedding[:6])
        whole.text_encoder.context_length = 6
        expected = whole.text_encoder(fewer(["coin"])).tokens
    assert torch.equal(tokens, expected)
    assert not torch.allclose(tokens, padded[:6], atol=1e-3)  # padding is read, so its length matters


def test_load_takes_the_context_and_a_converted_folder_remembers_it(folder: Path, tmp_path: Path) -> None:
    assert cs.load(folder / "litetext.pt", device="cpu", text_context=6).tokenizer.context_length == 6
    convert(open_checkpoint(folder / "litetext.pt", text_context=6), tmp_path / "own")
    written = json.loads((tmp_path / "own" / "config.json").read_text())["architecture"]["text"]
    assert (written["context_length"], written["positions"]) == (6, ROWS)
    assert text_of(tmp_path / "own").context_length == 6
    assert text_of(tmp_path / "own", 8).context_length == 8  # all rows are still there


def test_an_official_file_carries_the_context_in_its_name_and_a_hugging_face_one_in_its_table(
    folder: Path, tmp_path: Path
) -> None:
    source = folder / "sam3_litetext_mobileclip_s0_ctx6.pt"
    done = convert(open_checkpoint(source), tmp_path / "official", "official")
    assert done.files[0].name == "model_ctx6.pt" and done.lost == []
    assert text_of(done.files[0]) == text_of(source)
    done = convert(open_checkpoint(source), tmp_path / "hf", "hf")
    assert "rows 6 to 11 of text_encoder.position_embedding, which are not read" in done.lost
    assert (text_of(tmp_path / "hf").context_length, text_of(tmp_path / "hf").rows) == (6, 6)


@pytest.mark.parametrize("context", [2, ROWS + 1])
def test_a_context_that_has_no_room_or_no_positions_is_an_error(folder: Path, context: int) -> None:
    message = f"text_context = {context}: .*litetext.pt has positions for {ROWS} tokens; give 3 .* to {ROWS}"
    with pytest.raises(OptionError, match=message):
        open_checkpoint(folder / "litetext.pt", text_context=context)


def test_a_text_encoder_that_does_not_read_padding_leaves_no_choice(tiny_model_folder: Path) -> None:
    with pytest.raises(OptionError, match="text_context = 6: .* only MobileCLIP's leaves a choice"):
        open_checkpoint(tiny_model_folder, text_context=6)
