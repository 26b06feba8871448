"""`conceptseg demo` end to end on a tiny model, and how it picks its phrase."""

from __future__ import annotations

import json
import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from conceptseg.cli.demo import COIN_BOX, choose_phrase
from tests.cli.finished import Run, assert_one_error


def test_it_writes_pictures_and_results_and_says_so(
    run: Run, tiny_model_folder: Path, tmp_path: Path
) -> None:
    finished = run("demo", "--model", tiny_model_folder)
    assert finished.code == 0
    pictures = {"coins.png", "astronaut.jpg", "coffee.jpg", "scene.png"}
    asked = ("coins.box", "astronaut.words", "coffee.words", "coffee.box", "scene.words")
    overlays = {f"{name}.overlay.png" for name in asked}
    assert {*pictures, *overlays, "results.json"} == set(os.listdir(tmp_path / "demo-output"))
    assert finished.out.strip().splitlines()[-1].startswith("wrote demo-output/")
    coco = json.loads((tmp_path / "demo-output" / "results.json").read_text())
    assert {image["file_name"] for image in coco["images"]} == pictures


def test_json_says_how_many_there_are_and_how_many_were_found(run: Run, tiny_model_folder: Path) -> None:
    rows = json.loads(run("demo", "--model", tiny_model_folder, "--json").out)["images"]
    assert [row["there"] for row in rows[1:4]] == [1, 1, 1]
    coins, scene = rows[0], rows[-1]
    assert coins["there"] == 24
    assert coins["asked"] == "one example box"
    assert scene["there"] >= 1
    assert scene["phrase"] in scene["asked"]


def test_a_file_in_the_way_is_one_line(run: Run, tiny_model_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "demo-output").write_text("in the way")
    assert_one_error(run("demo", "--model", tiny_model_folder), "demo-output is a file")


def test_the_phrase_names_several_objects_but_not_all() -> None:
    phrases = {
        "thing": [0, 1, 2],
        "red thing": [0, 1],
        "circle": [0, 2],
        "small red star": [1],
        "blue thing": [2],
    }
    scene = SimpleNamespace(objects=[None] * 3, phrases=phrases)
    assert choose_phrase(scene) == "red thing"


def test_a_scene_of_one_object_still_has_a_phrase() -> None:
    assert choose_phrase(SimpleNamespace(objects=[None], phrases={"coin": [0]})) == "coin"


def test_the_example_box_lies_tightly_around_one_bright_coin() -> None:
    skimage_data = pytest.importorskip("skimage.data")
    coins = skimage_data.coins()
    x0, y0, x1, y1 = (int(value) for value in COIN_BOX)
    inside = coins[y0:y1, x0:x1].mean()
    above, below = coins[y0 - 6 : y0 - 2, x0:x1].mean(), coins[y1 + 2 : y1 + 6, x0:x1].mean()
    assert inside > 1.5 * max(above, below)
