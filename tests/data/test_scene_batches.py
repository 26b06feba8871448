"""Batches: determined by (seed, step, process), and padded so that masks, boxes and questions agree."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from conceptseg.data.batch import Batch, Question
from conceptseg.data.scene_batches import (
    SceneBatches,
    SceneDataConfig,
    SceneStage,
    collate,
    scene_vocabulary,
)
from conceptseg.data.scene_questions import VISUAL
from conceptseg.data.scenes import Scene, render_scene
from conceptseg.data.step_batches import batches_from
from conceptseg.errors import ConfigError
from conceptseg.models.boxes import cxcywh_to_xyxy, pixels_to_cxcywh
from conceptseg.models.text.tokenizer import Tokenizer, train_tokenizer

SMALL = SceneStage(steps=3, resolution=32, render_size=64, images=2, questions=3, mask_size=16)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(train_tokenizer(["red circle", "striped star", VISUAL], 300), 12)


@pytest.fixture(scope="module")
def config() -> SceneDataConfig:
    hard = SceneStage(steps=2, resolution=64, render_size=64, images=4, questions=1, mask_size=16)
    return SceneDataConfig(stages=(SMALL, hard), workers=0)


def tensors(batch: Batch) -> Iterator[tuple[str, Any]]:
    yield from {**vars(batch), **vars(batch.geometry), **vars(batch.targets)}.items()


def assert_same(one: Batch, other: Batch) -> None:
    for (name, a), (_, b) in zip(tensors(one), tensors(other), strict=True):
        if isinstance(a, torch.Tensor):
            assert torch.equal(a, b), name
    assert one.phrases == other.phrases


def test_a_batch_depends_on_seed_and_step_alone(config: SceneDataConfig, tokenizer: Tokenizer) -> None:
    data = SceneBatches(config, tokenizer, seed=5)
    first = data[3]
    data[0], np.random.rand(), torch.rand(1)
    assert_same(first, data[3])
    assert_same(first, SceneBatches(config, tokenizer, seed=5)[3])


@pytest.mark.parametrize("other", [{"seed": 6}, {"process": 1, "processes": 2}, {"split": "held_out"}])
def test_other_seeds_processes_and_splits_see_other_scenes(
    config: SceneDataConfig, tokenizer: Tokenizer, other: dict[str, Any]
) -> None:
    one = SceneBatches(config, tokenizer, **{"seed": 5, **other})[1]
    assert not torch.equal(one.pixels, SceneBatches(config, tokenizer, seed=5)[1].pixels)


def test_processes_and_steps_share_no_scene(config: SceneDataConfig, tokenizer: Tokenizer) -> None:
    seen: set[bytes] = set()
    for process in range(2):
        data = SceneBatches(config, tokenizer, 5, process, 2)
        for step in range(3):
            seen |= {image.numpy().tobytes() for image in data[step].pixels}
    assert len(seen) == 2 * 3 * SMALL.images


def test_shapes_follow_the_stage(config: SceneDataConfig, tokenizer: Tokenizer) -> None:
    data = SceneBatches(config, tokenizer, seed=0)
    assert len(data) == 5
    for step, (images, side, pairs) in {2: (2, 32, 6), 3: (4, 64, 4)}.items():
        batch = data[step]
        assert batch.pixels.shape == (images, 3, side, side) and batch.pixels.dtype == torch.uint8
        assert batch.token_ids.shape == (pairs, 12)
        assert len(batch.phrases) == len(batch.image_index) == len(batch.exemplar_index) == pairs
        assert batch.targets.masks is not None and batch.targets.masks.shape[-2:] == (16, 16)


def test_difficulty_runs_from_the_first_to_the_second_over_a_stage() -> None:
    stage, rng = SceneStage(difficulty=(0.4, 0.8)), np.random.default_rng(0)
    seen = {
        progress: [stage.draw_difficulty(progress, rng) for _ in range(100)] for progress in (0.0, 0.5, 1.0)
    }
    # A spread of up to 0.4 keeps easier scenes in the mix.
    for progress, hardest in {0.0: 0.4, 0.5: 0.6, 1.0: 0.8}.items():
        assert hardest - 0.4 <= min(seen[progress]) and hardest - 0.05 < max(seen[progress]) <= hardest


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("paired", [True, False])
def test_in_a_paired_stage_neighbours_share_a_theme(seed: int, paired: bool, tokenizer: Tokenizer) -> None:
    """Whether the seed is even or odd: questions take boxes from image 1 for image 0, from 3 for 2."""
    stage = SceneStage(steps=2, render_size=64, resolution=32, images=4, questions=1, paired=paired)
    data, rng = SceneBatches(SceneDataConfig(stages=(stage,)), tokenizer, seed), np.random.default_rng(0)
    themes = [scene.theme for step in range(2) for scene in data.scenes(step, rng)]
    assert [a == b for a, b in zip(themes[::2], themes[1::2], strict=True)] == [paired] * 4


def test_steps_fall_into_stages(config: SceneDataConfig) -> None:
    first, second = config.stages
    assert config.stage_of(0) == (first, 0.0)
    assert config.stage_of(2) == (first, 2 / 3)
    assert config.stage_of(3) == (second, 0.0)
    assert config.stage_of(99) == (second, 1.0)


def test_batches_can_be_taken_up_at_any_step(config: SceneDataConfig, tokenizer: Tokenizer) -> None:
    data = SceneBatches(config, tokenizer, seed=1)
    later = list(batches_from(data, 3))
    assert len(later) == 2
    for step, batch in enumerate(later, start=3):
        assert_same(batch, data[step])


def test_fetching_batches_draws_nothing_from_the_runs_random_numbers(
    config: SceneDataConfig, tokenizer: Tokenizer
) -> None:
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    next(batches_from(SceneBatches(config, tokenizer, seed=1), 0))
    assert torch.equal(torch.rand(2), expected)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    found = [scene for seed in range(40) if len((scene := render_scene(seed, size=64)).objects) >= 3]
    return found[:2]


@pytest.fixture(scope="module")
def questions(scenes: list[Scene]) -> list[Question]:
    first, second = scenes
    box = first.objects[0].box_xyxy
    return [
        Question(0, "red circle", [], [], 0, [2, 0]),
        Question(1, VISUAL, [box, (1.0, 2.0, 9.0, 12.0)], [1, 0], 0, [1]),  # boxes on the other image
        Question(1, "striped star", [], [], 1, []),
        Question(0, VISUAL, [box], [1], 0, [0, 1, 2]),
    ]


@pytest.fixture(scope="module")
def batch(scenes: list[Scene], questions: list[Question], tokenizer: Tokenizer) -> Batch:
    return collate(scenes, questions, tokenizer, resolution=32, mask_size=64)


def test_padding_says_which_slots_are_real(batch: Batch) -> None:
    assert batch.targets.valid.sum(1).tolist() == [2, 1, 0, 3]
    assert batch.targets.present.tolist() == [True, True, False, True]
    assert torch.equal(batch.targets.has_mask, batch.targets.valid)
    assert batch.geometry.box_padding is not None and batch.geometry.box_labels is not None
    assert (~batch.geometry.box_padding).tolist() == [[False] * 2, [True] * 2, [False] * 2, [True, False]]
    assert batch.geometry.box_labels[1].tolist() == [1, 0]
    assert batch.image_index.tolist() == [0, 1, 1, 0]
    assert batch.exemplar_index.tolist() == [0, 0, 1, 0]


def test_padded_slots_are_empty(batch: Batch) -> None:
    assert batch.targets.masks is not None
    assert not batch.targets.masks[~batch.targets.valid].any()
    assert not batch.targets.boxes_cxcywh[~batch.targets.valid].any()


def test_masks_are_those_of_the_questions_objects_in_their_order(
    batch: Batch, scenes: list[Scene], questions: list[Question]
) -> None:
    assert batch.targets.masks is not None
    for row, question in enumerate(questions):
        for slot, i in enumerate(question.objects):
            drawn = scenes[question.image].objects[i].mask
            assert np.array_equal(batch.targets.masks[row, slot].numpy(), drawn)


def test_boxes_are_tight_around_the_masks(batch: Batch) -> None:
    assert batch.targets.masks is not None
    for mask, box in zip(
        batch.targets.masks[batch.targets.valid], batch.targets.boxes_cxcywh[batch.targets.valid], strict=True
    ):
        rows, columns = torch.where(mask)
        expected = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        assert (cxcywh_to_xyxy(box) * 64).tolist() == pytest.approx([float(side) for side in expected])


def test_smaller_masks_keep_their_place_and_size(
    scenes: list[Scene], questions: list[Question], tokenizer: Tokenizer
) -> None:
    small = collate(scenes, questions, tokenizer, resolution=32, mask_size=16).targets
    assert small.masks is not None
    for row, question in enumerate(questions):
        for slot, i in enumerate(question.objects):
            drawn = scenes[question.image].objects[i].mask
            assert small.masks[row, slot].float().mean() == pytest.approx(drawn.mean(), abs=0.03)


def test_example_boxes_are_shares_of_the_image_they_lie_on(batch: Batch, scenes: list[Scene]) -> None:
    assert batch.geometry.boxes_cxcywh is not None
    x0, y0, x1, y1 = scenes[0].objects[0].box_xyxy
    first = batch.geometry.boxes_cxcywh[1, 0].tolist()
    assert first == pytest.approx([(x0 + x1) / 128, (y0 + y1) / 128, (x1 - x0) / 64, (y1 - y0) / 64])
    assert pixels_to_cxcywh([(10.0, 5.0, 30.0, 15.0)], (20, 40)).tolist() == [[0.5, 0.5, 0.5, 0.5]]


def test_questions_without_boxes_or_objects_still_make_a_batch(
    scenes: list[Scene], tokenizer: Tokenizer
) -> None:
    batch = collate(scenes, [Question(0, "kite", [], [], 0, [])], tokenizer, 32, 8)
    assert batch.targets.valid.tolist() == [[False]]
    assert batch.geometry.box_padding is not None and batch.geometry.box_padding.tolist() == [[True]]


def test_an_image_of_the_right_size_is_not_resized(scenes: list[Scene], tokenizer: Tokenizer) -> None:
    batch = collate(scenes, [Question(0, "kite", [], [], 0, [])], tokenizer, 64, 8)
    assert np.array_equal(batch.pixels[1].permute(1, 2, 0).numpy(), scenes[1].image)


def test_the_vocabulary_holds_phrases_and_the_word_for_boxes_alone() -> None:
    words = scene_vocabulary(6)
    assert words[0] == VISUAL and len(words) == len(set(words))
    scene = render_scene(0, size=64)
    assert {*scene.phrases, *scene.absent_phrases} <= set(words)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"steps": 0}, "steps >= 1"),
        ({"images": 3}, "even number of images"),
        ({"questions": -1}, "questions >= 0"),
        ({"render_size": 63}, "render_size >= 64"),
        ({"mask_size": 0}, "mask_size >= 1"),
        ({"difficulty": (0.5,)}, "two numbers from 0 to 1"),
        ({"difficulty": (0.5, 1.1)}, "two numbers from 0 to 1"),
    ],
)
def test_a_stage_that_cannot_be_run_is_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        SceneStage(**wrong)
