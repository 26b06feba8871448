"""`conceptseg convert`, and `conceptseg models info` of files of other programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from conceptseg.checkpoints.efficientsam3 import efficientsam3_table
from tests.checkpoints.foreign_files import official_state, write_tokenizer
from tests.checkpoints.test_text_context import LITE_TEXT
from tests.cli.finished import Run, assert_one_error


@pytest.fixture
def sam3(tmp_path: Path) -> Path:
    """An official file with a tracker in it, and the tokenizer beside it."""
    folder = tmp_path / "released"
    write_tokenizer(folder)
    state = official_state(prefix="detector.")
    torch.save(state | {"tracker.memory.weight": torch.zeros(500)}, folder / "sam3.pt")
    return folder / "sam3.pt"


@pytest.fixture
def without_geometry(sam3: Path) -> Path:
    state = {n: v for n, v in torch.load(sam3).items() if "geometry_encoder" not in n}
    torch.save(state, sam3.parent / "lacking.pt")
    return sam3.parent / "lacking.pt"


def test_an_official_file_becomes_a_folder_that_can_be_described(run: Run, sam3: Path) -> None:
    done = run("convert", sam3, "--to", "own")
    assert done.code == 0
    assert "official SAM 3" in done.out and "video tracker: 1 key, 2 kB" in done.out
    assert done.out.splitlines()[-1] == "wrote own"
    assert sorted(path.name for path in Path("own").iterdir()) == [
        "README.md",
        "config.json",
        "model.safetensors",
        "tokenizer.json",
        "unused.safetensors",
    ]
    described = run("models", "info", "own")
    assert described.code == 0
    assert "converted from" in described.out and "official SAM 3" in described.out


def test_there_and_back_is_the_same_file_without_the_tracker(run: Run, sam3: Path) -> None:
    assert run("convert", sam3, "--to", "own").code == 0
    done = run("convert", "own", "--to", "back", "--format", "official", "--json")
    assert done.code == 0 and done.err == "wrote back\n"
    assert set(json.loads(done.out)["files"]) == {"model.pt", "tokenizer.json"}
    given, back = torch.load(sam3), torch.load("back/model.pt")
    del given["tracker.memory.weight"]
    assert set(given) == set(back)
    assert all(torch.equal(back[name], value) for name, value in given.items())


def test_what_the_hugging_face_layout_has_no_place_for_is_said(run: Run, sam3: Path) -> None:
    done = run("convert", sam3, "--to", "hf", "--format", "hf")
    assert done.code == 0
    assert "note: left out" in done.err and "exemplar_encoder.point_coordinates.bias" in done.err
    assert run("models", "info", "hf").code == 0


def test_info_of_an_official_file_says_what_was_found_and_skipped(run: Run, sam3: Path) -> None:
    shown = run("models", "info", sam3)
    assert shown.code == 0
    for words in ("official SAM 3", "video tracker: 1 key, 2 kB", "rotary tables", "vit; clip, 8 tokens"):
        assert words in shown.out
    weights = json.loads(run("models", "info", sam3, "--json").out)["weights"]
    assert {"what": "video tracker", "keys": 1, "bytes": 2000} in weights["skipped"]


def test_a_lacking_geometry_encoder_is_one_line_and_can_be_taken_from_another_file(
    run: Run, sam3: Path, without_geometry: Path
) -> None:
    for command in (["models", "info", without_geometry], ["convert", without_geometry, "--to", "own"]):
        assert_one_error(run(*command), "lacks the geometry encoder", "--geometry-from sam3.pt")
        done = run(*command, "--geometry-from", sam3)
        assert done.code == 0
        assert "geometry encoder of" in done.out


def test_a_model_of_ours_that_no_other_layout_can_hold_is_one_line(run: Run, tiny_model_folder: Path) -> None:
    failed = run("convert", tiny_model_folder, "--to", "out", "--format", "official")
    assert_one_error(failed, "official layout has no vision encoder", "convnet")
    assert not Path("out").exists()


def test_the_source_is_not_written_over(run: Run, sam3: Path) -> None:
    assert_one_error(run("convert", sam3, "--to", sam3.parent), "--to", "give another folder")


def test_a_target_that_is_a_file_is_one_line(run: Run, sam3: Path) -> None:
    Path("taken").write_text("")
    assert_one_error(run("convert", sam3, "--to", "taken"), "--to taken", "is a file")


def test_a_file_of_text_by_the_name_of_weights_is_one_line(run: Run) -> None:
    Path("notes.pt").write_text("these are notes")
    assert_one_error(run("models", "info", "notes.pt"), "notes.pt is no file that torch.save wrote")


def test_a_text_context_is_kept_in_the_folder_and_shown(run: Run, tmp_path: Path) -> None:
    write_tokenizer(tmp_path / "lite")
    torch.save(
        official_state(LITE_TEXT, table=efficientsam3_table(None, mobileclip=True)), tmp_path / "lite/a.pt"
    )
    source = tmp_path / "lite" / "a.pt"
    assert run("convert", source, "--to", "own", "--text-context", "6").code == 0
    assert "mobileclip, 6 tokens (positions for 12)" in run("models", "info", "own").out
    assert "mobileclip, 12 tokens" in run("models", "info", source).out
    refused = run("convert", source, "--to", "other", "--text-context", "16")
    assert_one_error(refused, "text_context = 16")
