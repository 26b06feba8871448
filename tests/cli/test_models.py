"""`conceptseg models` and `conceptseg models info`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conceptseg.segmenter import Segmenter
from tests.cli.finished import Run, assert_one_error


def test_info_counts_the_parameters_of_every_part(
    run: Run, tiny_model_folder: Path, tiny_segmenter: Segmenter
) -> None:
    model = json.loads(run("models", "info", tiny_model_folder, "--json").out)
    parts = dict(model["parameters"])
    assert (
        parts.pop("all")
        == sum(parts.values())
        == sum(p.numel() for p in tiny_segmenter.detector.parameters())
    )
    assert {"vision_encoder", "text_encoder", "exemplar_encoder", "decoder", "mask_head"} <= set(parts)


def test_info_says_how_presence_is_read_and_where_the_model_comes_from(
    run: Run, tiny_model_folder: Path
) -> None:
    model = json.loads(run("models", "info", tiny_model_folder, "--json").out)
    assert model["name"] == "tiny"
    assert model["resolution"] == 96
    assert model["presence"] == {"mode": "multiply", "scale": 2.0, "offset": 1.0}
    assert model["licence"] == "not stated"

    table = run("models", "info", tiny_model_folder).out
    assert "scale 2, offset 1" in table
    assert "vision encoder" in table


def test_the_list_names_every_embedded_model(
    run: Run, tiny_model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("conceptseg.hub._embedded_folder", lambda: tiny_model_folder.parent)
    listed = run("models")
    assert (listed.code, listed.err) == (0, "")
    assert "tiny" in listed.out and "96 px" in listed.out
    assert list(json.loads(run("models", "--json").out)["embedded"]) == ["tiny"]


def test_an_unknown_model_is_one_line(run: Run) -> None:
    assert_one_error(run("models", "info", "naon"), "naon")
