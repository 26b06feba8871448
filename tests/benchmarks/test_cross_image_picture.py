"""The picture of examples on other images: what it draws, and what the line under a pair counts."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image, ImageDraw

import conceptseg as cs
from benchmarks import cross_image_picture as picture
from benchmarks.cross_image import nuclei_cases
from tests.tiles import HEIGHT, WIDTH, write_tiles


@pytest.fixture
def tiles(tmp_path: Path) -> Path:
    """Images that all show something of the concept that the benchmark asks for."""
    folder = write_tiles(tmp_path / "tiles", "valid", images=9)
    labels = folder / "valid" / "_annotations.coco.json"
    labels.write_text(labels.read_text().replace("red tile", "nucleus"))
    return folder


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(ImageDraw.ImageDraw, "text", lambda self, xy, text, **how: lines.append(text))
    return lines


def test_pairs_stand_two_in_a_row(tiles: Path, tiny_model_folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "figures" / "pairs.png"
    picture.main(
        ["--model", str(tiny_model_folder), "--nuclei", str(tiles), "--pairs", "3", "--picture", str(out)]
    )
    panel = round(WIDTH * picture.HEIGHT / HEIGHT)
    with Image.open(out) as drawn:
        assert drawn.size == (2 * (2 * panel + 6 + 16), 2 * (picture.HEIGHT + picture.STRIP + 6))


def test_the_line_counts_objects_that_were_found(tiles: Path, written: list[str]) -> None:
    images, cases = nuclei_cases(tiles, 3)
    case = cases[2]  # its image shows three
    there = images[case.searched].of("nucleus")
    answered = np.stack([there[0].mask, np.zeros((HEIGHT, WIDTH), bool)])
    boxes, scores = np.array([[1, 2, 9, 9], [3, 4, 9, 9]], np.float32), np.array([0.9, 0.8], np.float32)
    result = cs.Result(
        "visual", (HEIGHT, WIDTH), answered, boxes=boxes, scores=scores, class_scores=scores, presence=0.9,
        presence_logit=2.0, image=images[case.searched].pixels,
    )  # fmt: skip
    asked: list[list[float]] = []

    def exemplar(image: Image.Image, boxes: list[list[float]]) -> object:
        asked.extend(boxes)
        return object()

    segmenter = SimpleNamespace(exemplar=exemplar, segment=lambda image, exemplar: result)
    picture.draw_case(segmenter, images, case, shots=1)
    assert len(there) == 3 and written[-1] == "1 of 3 found, 2 answers"
    assert [tuple(box) for box in asked] == [tuple(case.examples[0][1].box_xyxy)]
