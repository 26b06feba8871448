"""`conceptseg exemplar`: what it prints and writes."""

from __future__ import annotations

import json
from pathlib import Path

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


def test_a_concept_file_stands_in_for_its_examples(run, photo, tiny_model_folder):
    model = ("--model", tiny_model_folder)
    saved = run("exemplar", "save", f"{photo}:10,10,40,40", "--negative", f"{photo}:50,20,80,50",
                "--to", "kinds/widget.concept.safetensors", *model)  # fmt: skip
    assert saved.code == 0, saved.err
    assert saved.out == (
        "wrote kinds/widget.concept.safetensors: 1 positive and 1 negative examples on 1 image\n"
    )
    by_file = run("segment", photo, "--exemplar", "kinds/widget.concept.safetensors", "--threshold", 0,
                  "--json", *model)  # fmt: skip
    by_boxes = run("segment", photo, "--exemplar", f"{photo}:10,10,40,40", "--negative-exemplar",
                   f"{photo}:50,20,80,50", "--threshold", 0, "--json", *model)  # fmt: skip
    assert by_file.code == by_boxes.code == 0, by_file.err + by_boxes.err
    assert json.loads(by_file.out)["images"] == json.loads(by_boxes.out)["images"]


def test_wrong_concepts_say_what_would_be_right(run, photo, tiny_model_folder):
    done = run("exemplar", "save", f"{photo}:10,10,40,40", "--to", "widget.txt")
    assert (done.code, "must end in .safetensors" in done.err) == (2, True)
    done = run("segment", photo, "--exemplar", "gone.safetensors", "--model", tiny_model_folder)
    assert (done.code, done.err) == (2, "error: gone.safetensors: no such file\n")
    done = run("segment", photo, "--negative-exemplar", "photo.png:1,2,3", "--model", tiny_model_folder)
    assert done.code == 2 and done.err.startswith("error: --negative-exemplar photo.png: 1,2,3 is not four")


def test_segment_draws_what_its_examples_say(run, photo, tiny_model_folder):
    done = run("segment", photo, "--box", "10,10,40,40", "--explain", "--out", "found", "--json",
               "--model", tiny_model_folder)  # fmt: skip
    assert done.code == 0, done.err
    (image,) = json.loads(done.out)["images"]
    assert image["explained"].endswith(".explained.png") and Path(image["explained"]).stat().st_size > 5000
    refused = run("segment", photo, "--text", "coin", "--explain", "--model", tiny_model_folder)
    assert (refused.code, refused.err) == (
        2,
        "error: --explain is about examples; give --box or --exemplar\n",
    )
