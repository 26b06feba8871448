"""`conceptseg segment` on a tiny model with random weights; its scores lie around 0.2."""

from __future__ import annotations

import json
import os
import shutil
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from conceptseg.segmenter import Segmenter
from tests.cli.finished import Run, assert_one_error

LOW = ("--threshold", "0.05")


def test_overlay_and_results_are_those_of_the_library(
    run: Run, photo: Path, tiny_model_folder: Path, tiny_segmenter: Segmenter, tmp_path: Path
) -> None:
    asked = run("segment", photo, "--text", "coin", "--model", tiny_model_folder, "--out", "found", *LOW)
    result = tiny_segmenter.segment(photo, text="coin", threshold=0.05)
    coco = json.loads((tmp_path / "found" / "results.json").read_text())

    assert asked.code == 0
    assert len(result) > 0
    assert [entry["score"] for entry in coco["annotations"]] == pytest.approx(
        result.scores.tolist(), abs=1e-6
    )
    masks = np.stack([coco_mask.decode(entry["segmentation"]) for entry in coco["annotations"]])
    assert np.array_equal(masks.astype(bool), result.masks)
    overlay = Image.open(tmp_path / "found" / "photo.overlay.png")
    assert overlay.size == (90, 60)
    assert np.array_equal(np.asarray(overlay), np.asarray(result.plot()))


def test_the_table_has_a_row_per_image_and_phrase_and_the_last_line_names_the_files(
    run: Run, photo: Path, tiny_model_folder: Path
) -> None:
    finished = run(
        "segment", photo, "--text", "coin", "--text", "red circle", "--model", tiny_model_folder, *LOW
    )
    lines = finished.out.strip().splitlines()
    assert [line.count("photo.png") for line in lines].count(1) == 2
    assert "red circle" in finished.out
    assert lines[-1] == f"wrote {Path('segmented/results.json')} and 1 overlay"
    assert finished.err == ""


def test_json_is_all_that_standard_output_holds(run: Run, photo: Path, tiny_model_folder: Path) -> None:
    finished = run("segment", photo, "--text", "coin", "--model", tiny_model_folder, "--json", *LOW)
    answer = json.loads(finished.out)
    (image,) = answer["images"]
    (concept,) = image["concepts"]
    assert Path(answer["results"]).is_file() and Path(image["overlay"]).is_file()
    assert concept["phrase"] == "coin"
    assert concept["count"] == len(concept["scores"]) == len(concept["boxes"]) > 0
    assert concept["best_score"] == max(concept["scores"])
    assert finished.err.startswith("wrote ")


def test_images_of_one_name_keep_their_own_results(
    run: Run, photo: Path, tiny_model_folder: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.mkdir()
    Image.open(photo).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(other / photo.name)
    run("segment", photo, other, "--text", "coin", "--text", "star", "--model", tiny_model_folder, *LOW)

    coco = read_coco(tmp_path / "segmented" / "results.json")
    assert len(coco.imgs) == 2
    assert {image["file_name"] for image in coco.imgs.values()} == {
        photo.as_posix(),
        (other / photo.name).as_posix(),
    }
    overlays = {image["overlay"] for image in coco.imgs.values()}
    assert len(overlays) == 2 and all((tmp_path / "segmented" / name).is_file() for name in overlays)
    assert {category["name"] for category in coco.cats.values()} == {"coin", "star"}
    assert all(annotation["image_id"] in coco.imgs for annotation in coco.anns.values())
    assert len(coco.anns) == len(coco.dataset["annotations"])  # every id is its own
    assert len(coco.dataset["presence"]) == 4


def test_boxes_and_exemplars_reach_the_model(
    run: Run, photo: Path, tiny_model_folder: Path, tiny_segmenter: Segmenter
) -> None:
    kind = tiny_segmenter.exemplar(photo, boxes=[[5, 5, 30, 30], [40, 10, 60, 50]])
    expected = tiny_segmenter.segment(
        photo, boxes=[[10, 10, 40, 40], [50, 5, 85, 30]], labels=[1, 0], exemplar=kind, threshold=0.05
    )
    finished = run(
        "segment", photo, "--model", tiny_model_folder,
        "--box", "10,10,40,40", "--negative-box", "50,5,85,30",
        "--exemplar", f"{photo}:5,5,30,30", "--exemplar", f"{photo}:40,10,60,50", "--json", *LOW,
    )  # fmt: skip
    (concept,) = json.loads(finished.out)["images"][0]["concepts"]
    assert concept["phrase"] == "visual"
    assert concept["scores"] == pytest.approx(expected.scores.tolist(), abs=1e-4)


def test_presence_reaches_the_model(run: Run, photo: Path, tiny_model_folder: Path) -> None:
    best = {}
    for mode in ("multiply", "ignore"):
        finished = run(
            "segment",
            photo,
            "--text",
            "coin",
            "--model",
            tiny_model_folder,
            "--presence",
            mode,
            "--json",
            *LOW,
        )
        best[mode] = json.loads(finished.out)["images"][0]["concepts"][0]["best_score"]
    assert best["multiply"] < best["ignore"]


def test_repeats_are_dropped_when_asked(run: Run, photo: Path, tiny_model_folder: Path) -> None:
    found = {}
    for mode in ("none", "nms"):
        asked = ("segment", photo, "--text", "coin", "--model", tiny_model_folder, "--dedupe", mode)
        finished = run(*asked, "--threshold", "0", "--json")
        found[mode] = json.loads(finished.out)["images"][0]["concepts"][0]["count"]
    assert 1 <= found["nms"] < found["none"]


def test_one_box_on_several_images_is_pointed_out(
    run: Run, photo: Path, tiny_model_folder: Path, tmp_path: Path
) -> None:
    shutil.copy(photo, tmp_path / "second.png")
    finished = run("segment", photo, "second.png", "--box", "10,10,40,40", "--model", tiny_model_folder)
    assert finished.code == 0
    assert "--exemplar carries" in finished.err


def test_results_may_lie_beside_the_images_and_are_replaced_by_the_next_run(
    run: Run, photo: Path, tiny_model_folder: Path, tmp_path: Path
) -> None:
    before = photo.read_bytes()
    for phrase in ("coin", "star"):
        assert run("segment", ".", "--text", phrase, "--model", tiny_model_folder, "--out", ".").code == 0
    assert photo.read_bytes() == before
    coco = json.loads((tmp_path / "results.json").read_text())
    assert [image["file_name"] for image in coco["images"]] == ["photo.png"]
    assert [category["name"] for category in coco["categories"]] == ["star"]
    assert sorted(os.listdir(tmp_path)) == ["photo.overlay.png", "photo.png", "results.json"]


def test_what_was_finished_is_kept_when_an_image_cannot_be_read(
    run: Run, photo: Path, tiny_model_folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "text.png").write_text("not a picture")
    finished = run("segment", photo, "text.png", photo, "--text", "coin", "--model", tiny_model_folder)
    kept, error = finished.err.splitlines()
    assert finished.code == 2
    assert kept.startswith("kept 1 of 2 images")
    assert error.startswith("error: text.png is not an image")
    coco = json.loads((tmp_path / "segmented" / "results.json").read_text())
    assert [image["file_name"] for image in coco["images"]] == ["photo.png"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], ["nothing was asked", "--text", "--box"]),
        (["--text", ""], ["empty"]),
        (["--text", "x" * 10_000], ["10,000 characters"]),
        (["--box", "40,12,38,90"], ["--box 40,12,38,90", "x1 <= x0"]),
        (["--box", "200,200,300,300"], ["outside", "90 x 60"]),
        (["--exemplar", "photo.png"], ["IMAGE:X0,Y0,X1,Y1"]),
        (["--exemplar", "missing.png:1,2,30,40"], ["missing.png", "no such file"]),
        (["--text", "x", "--model", "nanoo"], ["did you mean", "nano"]),
        (["--text", "x", "--device", "abacus"], ["abacus", "cpu"]),
        (["--text", "x", "--dtype", "int3"], ["int3", "float32"]),
        (["--text", "x", "--out", "photo.png"], ["photo.png is a file"]),
        (["--text", "x", "--out", "photo.png/deeper"], ["photo.png is a file"]),
    ],
    ids=lambda value: " ".join(value)[:40],
)
def test_a_mistake_is_one_line_and_writes_nothing(
    run: Run, photo: Path, tiny_model_folder: Path, tmp_path: Path, arguments: list[str], words: list[str]
) -> None:
    model = [] if "--model" in arguments else ["--model", tiny_model_folder]
    assert_one_error(run("segment", "photo.png", *arguments, *model), *words)
    assert os.listdir(tmp_path) == ["photo.png"]


def test_a_missing_image_is_one_line(run: Run, tiny_model_folder: Path) -> None:
    assert_one_error(
        run("segment", "nothing.png", "--text", "x", "--model", tiny_model_folder), "nothing.png"
    )


def read_coco(path: Path) -> COCO:
    """With pycocotools' checks, without what it prints."""
    coco = COCO()
    coco.dataset = json.loads(path.read_text())
    with redirect_stdout(StringIO()):
        coco.createIndex()
    return coco
