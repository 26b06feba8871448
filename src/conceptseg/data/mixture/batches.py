"""Batches of a mixture, each from pairs of images of its sources."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from conceptseg.data.batch import Batch, Question, RegionPhrases
from conceptseg.data.collate import collate_images
from conceptseg.data.foreign_words import foreign_words
from conceptseg.data.mixture.composites import CompositePairs
from conceptseg.data.mixture.config import TRAIN, AnySource, MixtureConfig, PhotographSource, SceneSource
from conceptseg.data.mixture.datasets import Opened, mixture_vocabulary, read_names
from conceptseg.data.mixture.photographs import PhotographPairs
from conceptseg.data.mixture.questions import PhotographQuestions
from conceptseg.data.mixture.scenes import ScenePairs
from conceptseg.data.mixture.source import AskedPair, Source
from conceptseg.data.names import Names
from conceptseg.data.region_names import join_regions, named_regions
from conceptseg.data.region_phrases import collect_region_phrases
from conceptseg.data.scene_batches import SceneStage, small_masks
from conceptseg.data.scenes.phrases import vocabulary
from conceptseg.models.text.tokenizer import Tokenizer


class MixedBatches:
    """Batch `step` of a run, for one of several processes that each take their share of the images."""

    def __init__(
        self,
        config: MixtureConfig,
        tokenizer: Tokenizer,
        seed: int,
        process: int = 0,
        processes: int = 1,
        held_out: bool = False,
    ) -> None:
        """Args:
        config: sources and stages.
        tokenizer: of the model.
        seed: of the run.
        process: number of this one.
        processes: that train together.
        held_out: scenes and photographs that are not trained on.

        Raises:
            DataError: a source cannot be read.
            ConfigError: the table of names cannot be.
        """
        self.config, self.tokenizer, self.seed = config, tokenizer, seed
        self.process, self.processes = process, processes
        self.workers = config.workers
        self.names = Names() if config.names is None and not config.sources else read_names(config)
        opened = Opened(config, held_out)
        known = mixture_vocabulary(config, self.names, opened)
        self.foreign = foreign_words([*known, *vocabulary()], "train") if opened.datasets else []
        self.all_names = sorted({name for dataset in opened.datasets.values() for name in dataset.phrases})
        asker = PhotographQuestions(config, self.names, self.all_names, self.foreign)
        self.sources: list[Source] = [
            _source(source, config, opened, asker, seed, held_out) for source in config.sources
        ]
        shares = np.array([source.share for source in config.sources])
        self._shares = shares / shares.sum()

    def __len__(self) -> int:
        return self.config.steps

    def __getitem__(self, step: int) -> Batch:
        stage, progress = self.config.stage_of(step)
        count = stage.images // 2
        first = (step * self.processes + self.process) * count
        pairs = []
        for number in range(first, first + count):
            rng = np.random.default_rng((self.seed, 86028121, number))
            source = self.sources[int(rng.choice(len(self.sources), p=self._shares))]
            pairs.append(source.pair(number, stage, stage.draw_difficulty(progress, rng), rng))
        images = [image for pair in pairs for image in pair.images]
        questions = [
            _moved(question, 2 * place) for place, pair in enumerate(pairs) for question in pair.questions
        ]
        batch = collate_images(images, questions, self.tokenizer)
        if stage.naming:
            rng = np.random.default_rng((self.seed, 7919, step, self.process))
            batch.regions = self._regions(pairs, stage, rng)
        return batch

    def side(self, step: int) -> int:
        """Side in pixels of a step's images."""
        return self.config.stage_of(step)[0].resolution

    def _regions(
        self, pairs: Sequence[AskedPair], stage: SceneStage, rng: np.random.Generator
    ) -> RegionPhrases:
        """The objects of all images against names and phrases."""
        scenes = [(2 * p + i, scene) for p, pair in enumerate(pairs) for i, scene in enumerate(pair.scenes)]
        photographs = [
            (2 * p + i, image, pair.names[i])
            for p, pair in enumerate(pairs)
            if pair.names is not None
            for i, image in enumerate(pair.images)
        ]
        found = named_regions(
            photographs, self.names, self.all_names, self.foreign, self.tokenizer, stage.naming, rng
        )
        if not scenes:
            return found
        drawn = collect_region_phrases(
            [scene for _, scene in scenes],
            [small_masks(scene, stage.mask_size) for _, scene in scenes],
            self.tokenizer,
            stage.naming,
            rng,
            stage.questions > 0,
        )
        drawn.image_index = torch.tensor([number for number, _ in scenes])[drawn.image_index]
        return join_regions(drawn, found)


def _source(
    source: AnySource,
    config: MixtureConfig,
    opened: Opened,
    asker: PhotographQuestions,
    seed: int,
    held_out: bool,
) -> Source:
    if isinstance(source, SceneSource):
        return ScenePairs(config, seed, "held_out" if held_out else TRAIN)
    if isinstance(source, PhotographSource):
        return PhotographPairs(opened.get(source.path, source.split), source, config, asker)
    return CompositePairs(source, config, opened, asker)


def _moved(question: Question, by: int) -> Question:
    question.image += by
    question.exemplar_image += by
    return question
