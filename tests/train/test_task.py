"""A task turns a batch into named losses."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from conceptseg.data.scene_batches import SceneBatches
from conceptseg.losses.detection import DetectionLoss, LossWeights
from conceptseg.models.build import build_detector
from conceptseg.train.recipe import Recipe, load_recipe
from conceptseg.train.task import SceneTask
from tests.train.tiny import tiny_tokenizer, write_recipe


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Recipe:
    return load_recipe(write_recipe(tmp_path_factory.mktemp("recipe") / "tiny.yaml"))


@pytest.fixture
def task(recipe: Recipe) -> SceneTask:
    torch.manual_seed(0)
    detector = build_detector(recipe.model.detector_config())
    return SceneTask(detector, DetectionLoss(recipe.loss), recipe.preprocessing)


@pytest.fixture(scope="module")
def batches(recipe: Recipe) -> SceneBatches:
    return SceneBatches(recipe.data, tiny_tokenizer(), seed=0)


def test_losses_are_finite_scalars_that_all_have_a_weight(task: SceneTask, batches: SceneBatches) -> None:
    losses = task(batches[0], torch.tensor(4.0))
    assert set(losses) <= set(LossWeights().by_name())
    assert all(value.shape == () and torch.isfinite(value) for value in losses.values())


def test_the_auxiliary_queries_can_be_switched_off(task: SceneTask, batches: SceneBatches) -> None:
    task.use_one_to_many(False)
    assert not any(name.startswith("o2m_") for name in task(batches[0], torch.tensor(4.0)))
    task.use_one_to_many(True)
    assert any(name.startswith("o2m_") for name in task(batches[0], torch.tensor(4.0)))


def test_pixels_are_normalised_as_the_recipe_says(task: SceneTask, batches: SceneBatches) -> None:
    seen = []
    task.detector.vision_encoder.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    batch = batches[0]
    task.predict(batch)
    (pixels,) = seen
    assert torch.allclose(pixels, batch.pixels.float() / 255 * 2 - 1, atol=1e-6)


def test_boxes_are_read_from_the_image_they_lie_on(task: SceneTask, batches: SceneBatches) -> None:
    """In a cross-image question the other image changes the answer; otherwise it does not."""
    task.eval()
    batch = batches[0]
    batch.exemplar_index = 1 - batch.image_index
    batch.geometry.box_padding = torch.zeros_like(batch.geometry.box_padding)  # type: ignore[arg-type]
    batch.geometry.boxes_cxcywh = torch.full_like(batch.geometry.boxes_cxcywh, 0.5)  # type: ignore[arg-type]
    about_first = batch.image_index == 0
    before = task.predict(batch).class_logits[..., about_first]
    batch.pixels[1] = 255 - batch.pixels[1]
    after = task.predict(batch).class_logits[..., about_first]
    assert not torch.allclose(before, after)
    batch.exemplar_index = batch.image_index
    alone = task.predict(batch).class_logits[..., about_first]
    batch.pixels[1] = 255 - batch.pixels[1]
    assert torch.allclose(alone, task.predict(batch).class_logits[..., about_first], atol=1e-5)


def test_means_and_deviations_are_no_part_of_a_checkpoint(task: SceneTask) -> None:
    assert all(name.startswith(("detector.", "alignment.")) for name in task.state_dict())


def test_naming_adds_its_losses_and_reaches_every_encoder(task: SceneTask, recipe: Recipe) -> None:
    stage = dataclasses.replace(recipe.data.stages[0], naming=3, extra_images=2)
    data = SceneBatches(dataclasses.replace(recipe.data, stages=(stage,)), tiny_tokenizer(), seed=0)
    losses = task(data[0], torch.tensor(4.0))
    assert {"region_words", "region_examples", "class"} <= set(losses)
    (losses["region_words"] + losses["region_examples"]).backward()
    for part in ("vision_encoder", "neck", "text_encoder", "exemplar_encoder"):
        gradients = [p.grad for p in getattr(task.detector, part).parameters() if p.grad is not None]
        assert gradients and any(g.abs().max() > 0 for g in gradients), part


def test_a_stage_that_only_names_has_no_other_loss(task: SceneTask, recipe: Recipe) -> None:
    stage = dataclasses.replace(recipe.data.stages[0], naming=3, questions=0)
    data = SceneBatches(dataclasses.replace(recipe.data, stages=(stage,)), tiny_tokenizer(), seed=0)
    assert set(task(data[0], torch.tensor(1.0))) == {"region_words"}
