"""Training batches from a labelled dataset.

Images come in a new order every epoch. What is seen of an image, and what is asked, depends on the seed and
its place in that order alone: not on how many processes there are, nor on where a run was resumed.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from conceptseg.data.absent_words import AbsentWords
from conceptseg.data.annotated_view import AnnotatedView, view_image
from conceptseg.data.batch import Batch
from conceptseg.data.collate import collate_images
from conceptseg.data.composites import CompositeConfig, pasted_on
from conceptseg.data.concept_data import ConceptDataset
from conceptseg.data.concept_questions import Questioner
from conceptseg.data.cutouts import Cutouts
from conceptseg.data.question_config import AskConfig
from conceptseg.data.view import AugmentConfig, draw_view
from conceptseg.errors import ConfigError
from conceptseg.models.text.tokenizer import Tokenizer

WHOLE = (0.85, 1.0)  # a little off each time, so that no object is always in the same cell


@dataclass(frozen=True)
class BatchConfig:
    """What a step sees."""

    images: int = 8  # per step and process
    questions: int = 1  # per image
    workers: int = 1  # processes that read images; 0 reads them in the training process
    ask: AskConfig = field(default_factory=AskConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    composites: CompositeConfig | None = None  # paste more objects of the data on its images; None: do not
    composite_share: float = 0.5  # of the images, that composites are made of
    smallest_cutout: int = 24  # shorter side of an object that is pasted elsewhere, in pixels of its image

    def __post_init__(self) -> None:
        if self.images < 2 or self.images % 2:
            raise ConfigError(f"batch.images is {self.images}; give an even number, 2 or more")
        if self.questions < 1 or self.workers < 0:
            raise ConfigError("batch.questions must be 1 or more, batch.workers 0 or more")
        if not 0 <= self.composite_share <= 1:
            raise ConfigError(f"batch.composite_share is {self.composite_share}; give a share from 0 to 1")


class ConceptBatches:
    """Batch `step` of a fine-tuning run, for one of several processes that share out the images."""

    def __init__(
        self,
        dataset: ConceptDataset,
        tokenizer: Tokenizer,
        config: BatchConfig,
        *,
        steps: int,
        resolution: int,
        window_resolution: int | None = None,
        turns: bool,
        seed: int,
        process: int = 0,
        processes: int = 1,
    ) -> None:
        self.dataset = dataset
        self.tokenizer = tokenizer
        self.config = config
        self.steps = steps
        self.resolution = resolution
        self.window_resolution = window_resolution or resolution
        self.turns = turns
        self.seed = seed
        self.process, self.processes = process, processes
        self.workers = config.workers
        self.questioner = Questioner(config.ask, AbsentWords(dataset.phrases))
        self.cutouts = None if config.composites is None else Cutouts([dataset], config.smallest_cutout)

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> Batch:
        images = self.config.images
        first = (step * self.processes + self.process) * images
        generators = [np.random.default_rng((self.seed, 104729, first + i)) for i in range(images)]
        looked = self._sizes(step)
        seen = [self._look(first + i, looked, rng) for i, rng in enumerate(generators)]
        questions = [
            self.questioner.ask(seen, i, rng)
            for i, rng in enumerate(generators)
            for _ in range(self.config.questions)
        ]
        return collate_images([it.prepared for it in seen], questions, self.tokenizer)

    def side(self, step: int) -> int:
        """Side in pixels of a step's images."""
        return self._sizes(step).resolution

    def _sizes(self, step: int) -> Looked:
        """Whether a step sees windows or whole images; one size for all of its images, in every process."""
        augment = self.config.augment
        if np.random.default_rng((self.seed, 49979687, step)).random() >= augment.windows:
            return Looked(self.resolution, WHOLE)
        # Windows as much smaller as the square is: objects keep their size in pixels.
        largest = min(1.0, 1.25 * self.window_resolution / self.resolution)
        return Looked(self.window_resolution, (min(augment.smallest_window, largest), largest))

    def _look(self, place: int, looked: Looked, rng: np.random.Generator) -> AnnotatedView:
        epoch, position = divmod(place, len(self.dataset))
        order = np.random.default_rng((self.seed, 15485863, epoch)).permutation(len(self.dataset))
        image = self.dataset[int(order[position])]
        augment = self.config.augment
        view = draw_view(image.width, image.height, augment, looked.shares, self.turns, rng)
        side = looked.resolution // 2
        seen = view_image(image, view, looked.resolution, side, augment.colour, self.dataset.phrases, rng)
        if self.cutouts is None or rng.random() >= self.config.composite_share:
            return seen
        assert self.config.composites is not None  # as there are cut-outs
        return pasted_on(seen, self.cutouts, self.config.composites, rng)


@dataclass(frozen=True)
class Looked:
    """How a step looks at its images."""

    resolution: int  # side of the model's square
    shares: tuple[float, float]  # least and greatest side of the windows, as shares of the image's
