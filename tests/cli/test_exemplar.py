"""`conceptseg exemplar`: what it prints and writes."""

from __future__ import annotations

import json

import pytest

from conceptseg.data.scenes.writer import make_scenes


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "scenes"
    make_scenes(folder, count=8, seed=3, size=96)
    return folder


def test_gap_prints_a_table_and_names_what_it_wrote(run, scenes, tiny_model_folder):
    few = ("--images", 3, "--per-concept", 1, "--changed", 1, "--gradients", 1)
    done = run("exemplar", "gap", "--model", tiny_model_folder, "--data", scenes, "--split", "train", *few,
               "--against", tiny_model_folder, "--out", "gap")  # fmt: skip
    assert done.code == 0, done.err
    assert "own box found first" in done.out
    assert done.out.splitlines()[-1] == "wrote gap/gap.json and gap/gap.md"


def test_gap_prints_json_alone_when_asked(run, scenes, tiny_model_folder):
    few = ("--images", 2, "--per-concept", 1, "--changed", 0, "--gradients", 0)
    done = run("exemplar", "gap", "--model", tiny_model_folder, "--data", scenes, "--split", "train", *few,
               "--out", "gap", "--json")  # fmt: skip
    assert done.code == 0, done.err
    assert json.loads(done.out)["model"]["figures"]["scale"]["2x"]["cosine"] is None


def test_gap_needs_data_and_a_folder_to_write_to(run, scenes, tmp_path):
    (tmp_path / "file").touch()
    done = run("exemplar", "gap", "--data", scenes, "--out", "file")
    assert (done.code, done.err) == (2, "error: --out file: file is a file; give a folder\n")
    assert run("exemplar", "gap", "--data", "nowhere", "--out", "gap").code == 2
