"""A fixed pool of pictures to align on, whose image features can be computed once and kept.

Keeping features is valid while nothing that makes them trains: the vision encoder and the neck are frozen and
in eval mode, and pictures are not augmented. Then a step costs neither the pictures nor the encoder.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from conceptseg.data.batch import Batch
from conceptseg.data.encoded_batch import EncodedBatch
from conceptseg.data.question_config import QuestionConfig
from conceptseg.data.scene_batches import collate
from conceptseg.data.scene_questions import QuestionMaker
from conceptseg.data.scenes import Scene, render_scene
from conceptseg.errors import ConfigError
from conceptseg.exemplars.dataset_scenes import DatasetQuestions, scenes_of_dataset, without_empty_masks
from conceptseg.images import square_pixels
from conceptseg.models.config import ModelConfig, PreprocessingConfig
from conceptseg.models.detector import Detector
from conceptseg.models.text.tokenizer import Tokenizer

IMAGES_AT_ONCE = 16


@dataclass(frozen=True)
class PoolConfig:
    """Which pictures, and what is asked of them."""

    scenes: int = 512  # procedural scenes, in pairs that share a theme; or images of `dataset`
    seed: int = 0  # of the pictures; runs of several seeds may share a pool
    dataset: str | None = None  # folder of a labelled dataset; None draws scenes
    split: str = "train"  # of the dataset; looks while training take the held-out one
    resolution: int | None = None  # pixels per side that the model sees; None: the model's own
    render_size: int | None = (
        None  # pixels per side that pictures are drawn or kept at; None: as it sees them
    )
    pairs: int = 4  # pairs of pictures per step; a dataset with fewer gives all it has
    questions_per_image: int = 2
    difficulty: tuple[float, ...] = (0.6, 1.0)  # of scenes; each draws its own between the two
    mask_size: int = 64  # pixels per side of the masks that are compared
    # Exemplars: on the picture itself, joined with words, and on the other picture of the pair.
    questions: QuestionConfig = field(
        default_factory=lambda: QuestionConfig(
            phrase=0.0, absent_phrase=0.0, boxes=0.55, phrase_and_boxes=0.1, other_image=0.35
        )
    )

    def __post_init__(self) -> None:
        if self.scenes < 2 * self.pairs or self.scenes % 2 or self.pairs < 1:
            raise ConfigError(
                f"pool.scenes is {self.scenes} for {self.pairs} pairs per step; give an even number of at "
                "least two per pair, and at least one pair"
            )
        drawn = self.render_size
        if self.questions_per_image < 1 or (drawn is not None and drawn < 64) or self.mask_size < 1:
            raise ConfigError("pool needs questions_per_image >= 1, render_size >= 64 and mask_size >= 1")
        if len(self.difficulty) != 2 or not 0 <= self.difficulty[0] <= self.difficulty[1] <= 1:
            raise ConfigError(
                f"pool.difficulty is {list(self.difficulty)}; give two rising numbers from 0 to 1"
            )

    def of_model(self, config: ModelConfig) -> PoolConfig:
        """The same with the sizes that it leaves to the model.

        Raises:
            ConfigError: the vision encoder cannot read pictures of that size.
        """
        resolution = self.resolution or config.preprocessing.resolution
        stride = config.architecture.vision.stride
        if resolution < stride or resolution % stride:
            raise ConfigError(
                f"pool.resolution is {resolution}; it must be a multiple of {stride} for this model"
            )
        drawn = self.render_size or max(64, resolution)
        return dataclasses.replace(self, resolution=resolution, render_size=drawn)

    @property
    def sides(self) -> tuple[int, int]:
        """Pixels per side that the model sees, and that pictures are drawn at."""
        assert self.resolution is not None and self.render_size is not None, "see of_model"
        return self.resolution, self.render_size


def draw_pool(config: PoolConfig, split: str = "train") -> list[Scene]:
    """The pictures: scenes of a split, or the first images of the dataset; sizes must be filled in.

    Raises:
        DataError: the dataset cannot be read, or shows too little.
    """
    _, size = config.sides
    if config.dataset is not None:
        return scenes_of_dataset(
            config.dataset, config.split if split == "train" else None, config.scenes, size
        )
    easy, hard = config.difficulty
    first = config.seed * 1_000_003
    return [
        render_scene(
            first + i,
            size=size,
            split=split,
            theme=first // 2 + i // 2,
            difficulty=easy + (hard - easy) * float(np.random.default_rng((config.seed, 11, i)).random()),
        )
        for i in range(config.scenes)
    ]


@torch.no_grad()
def encode_pool(
    detector: Detector,
    scenes: Sequence[Scene],
    resolution: int,
    preprocessing: PreprocessingConfig,
    dtype: torch.dtype = torch.bfloat16,
) -> tuple[Tensor, ...]:
    """The levels of every picture, each (pictures, D, h, w), on the CPU."""
    device = next(detector.parameters()).device
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (preprocessing.mean, preprocessing.std))
    parts: list[list[Tensor]] = []
    training = detector.training
    detector.eval()
    for start in range(0, len(scenes), IMAGES_AT_ONCE):
        pixels = torch.stack(
            [square_pixels(scene.image, resolution) for scene in scenes[start : start + IMAGES_AT_ONCE]]
        )
        image = detector.encode_images(((pixels.float() / 255 - mean) / std).to(device))
        parts.append([level.to(dtype).cpu() for level in image.levels])
    detector.train(training)
    return tuple(torch.cat(level) for level in zip(*parts, strict=True))


class PoolBatches:
    """Batch `step` of a run: some pairs of the pool, and new questions about them."""

    workers = 0  # there is nothing to render

    def __init__(
        self,
        config: PoolConfig,
        scenes: Sequence[Scene],
        tokenizer: Tokenizer,
        seed: int,
        steps: int,
        levels: tuple[Tensor, ...] | None = None,
        process: int = 0,
        taught: Tensor | None = None,
    ) -> None:
        self.config = config
        self.scenes = scenes
        self.tokenizer = tokenizer
        self.seed = seed
        self.steps = steps
        self.levels = levels
        self.taught = taught  # (pictures, T, h, w), a teacher's
        self.process = process
        maker = QuestionMaker if config.dataset is None else DatasetQuestions
        self.maker = maker(config.questions)

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> Batch:
        rng = np.random.default_rng((self.seed, 104_729, step, self.process))
        there = len(self.scenes) // 2
        pairs = rng.choice(there, min(there, self.config.pairs), replace=False)
        numbers = [int(2 * pair + i) for pair in pairs for i in (0, 1)]
        scenes = [self.scenes[i] for i in numbers]
        asked = [i for i in range(len(scenes)) for _ in range(self.config.questions_per_image)]
        questions = [self.maker.ask(scenes, i, rng) for i in asked]
        batch = collate(scenes, questions, self.tokenizer, self.config.sides[0], self.config.mask_size)
        if self.config.dataset is not None:
            batch.targets = without_empty_masks(batch.targets)
        levels = None if self.levels is None else tuple(level[numbers].float() for level in self.levels)
        taught = None if self.taught is None else self.taught[numbers].float()
        return EncodedBatch(**vars(batch), levels=levels, taught=taught)
