"""Training batches from procedural scenes, rendered while training goes on.

Batch `step` is determined by (seed, step) alone. So a run that is resumed at any step sees what it would have
seen, and nothing about the data has to be saved.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from conceptseg.data.batch import Batch, Question
from conceptseg.data.collate import PreparedImage, collate_images
from conceptseg.data.question_config import QuestionConfig
from conceptseg.data.region_phrases import collect_region_phrases
from conceptseg.data.scene_questions import QuestionMaker
from conceptseg.data.scenes import Scene, render_scene
from conceptseg.errors import ConfigError
from conceptseg.images import square_pixels
from conceptseg.models.text.tokenizer import Tokenizer
from conceptseg.prompts import VISUAL

SCENES = "scenes"  # in place of a dataset's path: drawn for the occasion
DRAWN = "procedural scenes"  # what the provenance of a model calls them


@dataclass(frozen=True)
class SceneStage:
    """A stretch of training with one image size and one difficulty range."""

    steps: int = 1000
    resolution: int = 192  # pixels per side that the model sees
    render_size: int = 256  # pixels per side that scenes are drawn at, then resized as any image is
    images: int = 8  # per step
    questions: int = 3  # per image
    difficulty: tuple[float, ...] = (1.0, 1.0)  # at the stage's start and end; scenes get harder between
    mask_size: int = 96  # pixels per side of the masks that are compared
    paired: bool = True  # scenes 2k and 2k + 1 share a theme: a box on one may name something in the other
    extra_images: int = 0  # more images per step, whose objects are only named (see `naming`)
    naming: int = 0  # phrases drawn from each image and compared with the objects of all; 0 compares nothing
    rate: float = 1.0  # factor on the learning rate
    one_to_many: bool = True  # train the auxiliary queries too: helps early, costs half as much time again

    def __post_init__(self) -> None:
        if self.steps < 1 or self.images < 2 or self.images % 2 or self.questions < 0:
            raise ConfigError("a stage needs steps >= 1, an even number of images >= 2, and questions >= 0")
        if self.questions == 0 and self.naming == 0:
            raise ConfigError("a stage with questions = 0 needs naming >= 1, or it has nothing to learn")
        if self.extra_images < 0 or self.naming < 0:
            raise ConfigError("a stage needs extra_images >= 0 and naming >= 0")
        if self.render_size < 64 or self.mask_size < 1:
            raise ConfigError("a stage needs render_size >= 64 and mask_size >= 1")
        if len(self.difficulty) != 2 or not all(0 <= value <= 1 for value in self.difficulty):
            raise ConfigError(f"difficulty is {list(self.difficulty)}; give two numbers from 0 to 1")

    def draw_difficulty(self, progress: float, rng: np.random.Generator) -> float:
        """Of a scene at a place in the stage, 0 to 1."""
        easy, hard = self.difficulty
        centre = easy + (hard - easy) * progress
        # A spread around the schedule keeps easy scenes in the mix until the end.
        return float(np.clip(centre - 0.4 * rng.random() ** 2, 0.0, 1.0))


@dataclass(frozen=True)
class SceneDataConfig:
    """The stages, one after the other, and what is asked."""

    stages: tuple[SceneStage, ...] = (SceneStage(),)
    questions: QuestionConfig = field(default_factory=QuestionConfig)
    workers: int = 1  # processes that render; 0 renders in the training process

    def __post_init__(self) -> None:
        if not self.stages:
            raise ConfigError("data.stages is empty; give at least one stage")
        if self.workers < 0:
            raise ConfigError(f"data.workers is {self.workers}; give 0 or more")

    @property
    def steps(self) -> int:
        return sum(stage.steps for stage in self.stages)

    def stage_of(self, step: int) -> tuple[SceneStage, float]:
        """The stage that `step` falls into, and how far through it the step is, 0 to 1."""
        for stage in self.stages:
            if step < stage.steps:
                return stage, step / stage.steps
            step -= stage.steps
        return self.stages[-1], 1.0


class SceneBatches(Dataset[Batch]):
    """Batch `step` of a run, for one of several processes that each take their share of the images."""

    def __init__(
        self,
        config: SceneDataConfig,
        tokenizer: Tokenizer,
        seed: int,
        process: int = 0,
        processes: int = 1,
        split: str = "train",
    ) -> None:
        self.config = config
        self.tokenizer = tokenizer
        self.seed = seed
        self.process, self.processes = process, processes
        self.split = split
        self.workers = config.workers
        self.maker = QuestionMaker(config.questions)

    def __len__(self) -> int:
        return self.config.steps

    def __getitem__(self, step: int) -> Batch:
        stage, _ = self.config.stage_of(step)
        rng = np.random.default_rng((self.seed, 7919, step, self.process))
        scenes = self.scenes(step, rng)
        asked = [i for i in range(stage.images) for _ in range(stage.questions)]
        questions = [self.maker.ask(scenes[: stage.images], i, rng) for i in asked]
        batch = collate(scenes, questions, self.tokenizer, stage.resolution, stage.mask_size)
        if stage.naming:
            masks = [small_masks(scene, stage.resolution // 4) for scene in scenes]
            # Example boxes wait until features have names: before, they only pull them about.
            examples = stage.questions > 0
            batch.regions = collect_region_phrases(scenes, masks, self.tokenizer, stage.naming, rng, examples)
        return batch

    def scenes(self, step: int, rng: np.random.Generator) -> list[Scene]:
        """The pictures of a step; how hard each one is, is drawn from `rng`."""
        stage, progress = self.config.stage_of(step)
        count = stage.images + stage.extra_images
        first = self.seed * 1_000_003 + (step * self.processes + self.process) * count
        return [
            render_scene(
                first + i,
                size=stage.render_size,
                split=self.split,
                theme=first // 2 + (i if stage.paired else i + 1) // 2,
                difficulty=stage.draw_difficulty(progress, rng),
            )
            for i in range(count)
        ]


def collate(
    scenes: Sequence[Scene],
    questions: Sequence[Question],
    tokenizer: Tokenizer,
    resolution: int,
    mask_size: int,
) -> Batch:
    """Pad scenes and questions into one batch."""
    return collate_images(
        [prepared_scene(scene, resolution, mask_size) for scene in scenes], questions, tokenizer
    )


def is_scenes(data: str | os.PathLike[str]) -> bool:
    """Whether scenes are to be drawn; a folder of that name is that folder."""
    return os.fspath(data) == SCENES and not Path(data).exists()


def scene_vocabulary(scenes: int = 400) -> list[str]:
    """What a tokenizer is trained on: phrases that scenes are described with, there and absent."""
    phrases: dict[str, None] = {VISUAL: None}
    for seed in range(scenes):
        scene = render_scene(seed, size=64)
        phrases.update(dict.fromkeys([*scene.phrases, *scene.absent_phrases]))
    return list(phrases)


def prepared_scene(scene: Scene, resolution: int, mask_size: int) -> PreparedImage:
    """A scene as the model reads it; boxes in pixels of the scene."""
    height, width = scene.image.shape[:2]
    boxes = torch.tensor([it.box_xyxy for it in scene.objects]).view(-1, 4)
    return PreparedImage(
        pixels=square_pixels(scene.image, resolution),
        boxes_xyxy=boxes,
        size_hw=(height, width),
        masks=small_masks(scene, mask_size),
        has_mask=torch.ones(len(boxes), dtype=torch.bool),
    )


def small_masks(scene: Scene, size: int) -> Tensor:
    """Masks of a scene's objects, (objects, size, size) bool: a pixel is on where more than half of it is."""
    full = [Image.fromarray(it.mask.astype(np.uint8) * 255) for it in scene.objects]
    small = [np.asarray(mask.resize((size, size), Image.Resampling.BOX)) > 127 for mask in full]
    return torch.from_numpy(np.stack(small)) if small else torch.zeros(0, size, size, dtype=torch.bool)
