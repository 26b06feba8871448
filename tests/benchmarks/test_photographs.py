"""Counting coins, asked of a segmenter that knows every answer."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage

import conceptseg as cs
from benchmarks import photographs
from benchmarks.photograph_list import CREDITS, QUESTIONS, read_photograph
from conceptseg.cli.demo import COIN_BOX

LABELS = photographs.read_reference()
COINS = np.stack([number == LABELS for number in range(1, 25)])


def answer(masks: np.ndarray) -> cs.Result:
    count = len(masks)
    return cs.Result(
        phrase="",
        image_size=masks.shape[1:],
        masks=masks,
        boxes=np.zeros((count, 4), np.float32),
        scores=np.ones(count, np.float32),
        class_scores=np.ones(count, np.float32),
        presence=1.0,
        presence_logit=9.0,
        image=np.zeros((*masks.shape[1:], 3), np.uint8),
    )


class Oracle:
    """Answers every question about the coins with all of them, and finds nothing in other photographs."""

    resolution = 192

    def encode(self, image: Path) -> Path:
        return image

    def segment(self, image: Any, **prompt: Any) -> cs.Result:
        known = isinstance(image, Path)
        return answer(COINS if known else np.zeros((0, *image.shape[:2]), bool))


def test_the_reference_holds_24_whole_coins_of_the_photograph() -> None:
    with Image.open(photographs.PHOTOGRAPH) as photograph:
        assert photograph.size == LABELS.shape[::-1]
    assert set(np.unique(LABELS)) == set(range(25))
    for coin in COINS:
        assert ndimage.label(coin)[1] == 1
        assert coin.sum() > 1000
        assert (ndimage.binary_fill_holes(coin) == coin).all()
    edge = np.ones(LABELS.shape, bool)
    edge[1:-1, 1:-1] = False
    assert not LABELS[edge].any()


def test_the_box_of_the_demo_is_one_of_the_coins() -> None:
    number = 16  # fourth in the third row
    assert photographs.reference_boxes(LABELS)[number - 1] == pytest.approx(COIN_BOX, abs=2)


def test_perfect_masks_find_every_coin() -> None:
    count = photographs.count_coins(answer(COINS), LABELS)
    assert (count.found, count.false, count.repeats, count.mean_iou) == (24, 0, 0, 1.0)


def test_no_answer_finds_no_coin() -> None:
    count = photographs.count_coins(answer(COINS[:0]), LABELS)
    assert (count.found, count.false, count.repeats, count.mean_iou) == (0, 0, 0, None)


def test_a_second_mask_of_a_coin_and_a_mask_of_nothing_are_false() -> None:
    nothing = np.zeros_like(LABELS, bool)
    nothing[:10, :10] = True
    masks = np.stack([COINS[0], COINS[0], COINS[1], nothing])
    count = photographs.count_coins(answer(masks), LABELS)
    assert (count.found, count.false, count.repeats) == (2, 2, 1)


def test_a_mask_counts_from_half_overlap_on() -> None:
    rows, columns = np.nonzero(COINS[0])
    for share, found in ((0.52, 1), (0.48, 0)):
        part = np.zeros_like(COINS[0])
        kept = int(share * len(rows))
        part[rows[:kept], columns[:kept]] = True
        count = photographs.count_coins(answer(part[None]), LABELS)
        assert (count.found, count.false) == (found, 1 - found)


def test_two_coins_in_one_mask_are_at_most_one_find() -> None:
    count = photographs.count_coins(answer((COINS[0] | COINS[1])[None]), LABELS)
    assert count.found + count.false == 1


def test_an_enlarged_answer_covers_the_same_share_of_the_picture() -> None:
    result = photographs.enlarged(answer(COINS), 2)
    assert result.masks.shape == (24, 606, 768)
    assert result.image is not None and result.image.shape == (606, 768, 3)
    assert result.masks.sum() == 4 * COINS.sum()


def test_every_question_has_a_prompt_on_its_photograph() -> None:
    assert len({question.name for question in QUESTIONS}) == len(QUESTIONS)
    for question in QUESTIONS:
        assert question.prompt and question.photograph in CREDITS
        height, width, channels = read_photograph(question.photograph).shape
        assert channels == 3
        if question.box is not None:
            x0, y0, x1, y1 = question.box
            assert 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height


def test_the_results_name_the_command_and_the_coins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(photographs.cs, "load", lambda *arguments, **options: Oracle())
    words = ["--resolutions", "--out", str(tmp_path), "--images", str(tmp_path / "images")]
    assert photographs.main(words) == 0
    report = json.loads((tmp_path / "photographs.json").read_text())
    assert report["command"] == "python benchmarks/photographs.py --model nano --resolutions"
    each = report["coins"]["192"]["each_box"]
    assert (each["median_found"], each["most_false"], each["boxes_that_reach_the_aim"]) == (24, 0, 24)
    assert (tmp_path / "photographs.md").is_file()
    assert (tmp_path / "images" / "coins_box.png").is_file()
    assert capsys.readouterr().out.splitlines()[-1].startswith("wrote ")


def test_an_unknown_model_ends_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert photographs.main(["--model", "nanno", "--resolutions"]) == 2
    assert capsys.readouterr().err.startswith("error: unknown model 'nanno'")
