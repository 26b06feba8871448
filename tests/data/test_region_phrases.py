"""What is true of what: agrees with what the scenes say of themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from conceptseg.data.region_phrases import collect_region_phrases
from conceptseg.data.scene_batches import SceneBatches, SceneDataConfig, SceneStage
from conceptseg.data.scenes import Scene, render_scene
from conceptseg.errors import ConfigError
from conceptseg.models.text.tokenizer import Tokenizer, train_tokenizer


class Recorder(Tokenizer):
    """Remembers the phrases it was given."""

    seen: list[str]

    def __call__(self, phrases):  # type: ignore[no-untyped-def]
        self.seen = list(phrases)
        return super().__call__(phrases)


@pytest.fixture
def tokenizer() -> Recorder:
    return Recorder(train_tokenizer(["red circle", "striped star"], 300), 12)


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return [render_scene(seed, size=96, difficulty=0.7) for seed in range(6)]


def masks_of(scenes: list[Scene]) -> list[torch.Tensor]:
    return [torch.from_numpy(np.stack([it.mask for it in scene.objects])) for scene in scenes]


def test_truth_agrees_with_each_scene(scenes: list[Scene], tokenizer: Recorder) -> None:
    regions = collect_region_phrases(scenes, masks_of(scenes), tokenizer, 8, np.random.default_rng(0))
    checked = 0
    for row, phrase in enumerate(tokenizer.seen):
        for image, scene in enumerate(scenes):
            answers = regions.truth[row][regions.image_index == image]
            if phrase in scene.phrases:
                named = torch.zeros(len(scene.objects), dtype=torch.int8)
                named[scene.phrases[phrase]] = 1
                assert torch.equal(answers, named), phrase
                checked += 1
            elif phrase in scene.absent_phrases:
                assert not answers.any(), phrase
                checked += 1
    assert checked > 40


def test_phrases_of_one_scene_are_asked_of_the_others(scenes: list[Scene], tokenizer: Recorder) -> None:
    regions = collect_region_phrases(scenes, masks_of(scenes), tokenizer, 8, np.random.default_rng(0))
    words = regions.truth[: len(tokenizer.seen)]
    per_image = [(words[:, regions.image_index == image] >= 0).any(1).float().mean() for image in range(6)]
    assert min(per_image) > 0.5


def test_an_example_box_means_its_family_in_its_own_scene(scenes: list[Scene], tokenizer: Recorder) -> None:
    regions = collect_region_phrases(scenes, masks_of(scenes), tokenizer, 2, np.random.default_rng(0))
    objects = [(image, it) for image, scene in enumerate(scenes) for it in scene.objects]
    assert regions.image_index[regions.examples].tolist() == list(range(6))
    for row, example in zip(regions.truth[len(tokenizer.seen) :], regions.examples.tolist(), strict=True):
        image, shown = objects[example]
        expected = [int(it.family == shown.family) if own == image else -1 for own, it in objects]
        assert row.tolist() == expected


def test_boxes_are_those_of_the_objects(scenes: list[Scene], tokenizer: Recorder) -> None:
    regions = collect_region_phrases(scenes, masks_of(scenes), tokenizer, 2, np.random.default_rng(0))
    x0, y0, x1, y1 = scenes[0].objects[0].box_xyxy
    expected = torch.tensor([(x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0]) / 96
    assert torch.allclose(regions.boxes_cxcywh[0], expected)


def test_extra_images_are_named_and_not_asked_about() -> None:
    stage = SceneStage(
        steps=2, resolution=64, render_size=64, images=2, questions=2, extra_images=3, naming=2, mask_size=16
    )
    tokenizer = Tokenizer(train_tokenizer(["red circle"], 300), 12)
    batch = SceneBatches(SceneDataConfig(stages=(stage,), workers=0), tokenizer, seed=1)[0]
    assert batch.pixels.shape[0] == 5 and int(batch.image_index.max()) == 1
    assert batch.regions is not None and set(batch.regions.image_index.tolist()) == set(range(5))
    assert batch.regions.truth.shape == (
        len(batch.regions.token_ids) + len(batch.regions.examples),
        len(batch.regions.masks),
    )


def test_a_stage_that_only_names_asks_nothing_and_shows_no_examples() -> None:
    stage = SceneStage(steps=2, resolution=64, render_size=64, images=4, questions=0, naming=2)
    tokenizer = Tokenizer(train_tokenizer(["red circle"], 300), 12)
    batch = SceneBatches(SceneDataConfig(stages=(stage,), workers=0), tokenizer, seed=1)[0]
    assert batch.phrases == [] and batch.regions is not None and len(batch.regions.examples) == 0


def test_a_stage_with_nothing_to_learn_is_refused() -> None:
    with pytest.raises(ConfigError, match="questions = 0 needs naming"):
        SceneStage(questions=0)
