"""Stage 1 on files: images without labels and phrases from a list, in batches of one step each.

Every image comes once before any comes twice, in an order drawn from (seed, round).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from conceptseg.data.concept_data import ConceptDataset, open_dataset
from conceptseg.data.formats.image_files import images_in
from conceptseg.data.formats.recognise import find_splits
from conceptseg.distil.batch import DistilBatch
from conceptseg.distil.feature_cache import FeatureCache
from conceptseg.distil.recipe import DistilDataConfig
from conceptseg.errors import DataError
from conceptseg.images import load_image, square_pixels
from conceptseg.losses.targets import Targets
from conceptseg.models.prompts import GeometricPrompt
from conceptseg.models.text.tokenizer import Tokenizer

TRAIN = "train"


def find_images(
    config: DistilDataConfig, dataset: ConceptDataset | None = None
) -> tuple[list[Path], list[str]]:
    """The images and phrases of a labelled dataset (whose labels are not read), or of a folder and a list.

    Args:
        config: where they lie.
        dataset: labelled images that are already opened, in place of the source's.

    Returns:
        Paths, and phrases without repetition; there may be none.

    Raises:
        DataError: no image is there, or the list cannot be read.
    """
    source = Path(config.source)
    listed = [] if config.phrases is None else read_phrases(Path(config.phrases))
    if dataset is not None:
        return [image.path for image in dataset], listed or list(dataset.phrases)
    if not source.exists():
        raise DataError(f"{source}: no such folder of images or dataset")
    try:
        find_splits(source)
    except DataError:
        paths = images_in(source)
        if not paths:
            raise DataError(f"{source} holds no image and no dataset") from None
        return paths, listed
    opened = open_training(config)
    return [image.path for image in opened], listed or list(opened.phrases)


def open_training(config: DistilDataConfig) -> ConceptDataset:
    """The dataset's split that is learned from: the one that is named, else "train" or the only one.

    Raises:
        DataError: as `open_dataset`.
    """
    splits = find_splits(config.source)
    split = TRAIN if config.split is None and TRAIN in splits else config.split
    return open_dataset(config.source, split, absent=config.absent)


class ImageBatches:
    """Batches of unlabelled images, for one of several processes that each take their share."""

    def __init__(
        self,
        paths: Sequence[Path],
        phrases: Sequence[str],
        config: DistilDataConfig,
        tokenizer: Tokenizer,
        *,
        steps: int,
        resolution: int,
        seed: int,
        process: int = 0,
        processes: int = 1,
        cache: FeatureCache | None = None,
    ) -> None:
        """Args:
        paths: of the images.
        phrases: to draw from; none to learn from images alone.
        config: images and phrases per step.
        tokenizer: of the student.
        steps: of the run.
        resolution: that images are resized to; the larger of what teacher and student see.
        seed: of the run.
        process: which of the processes.
        processes: how many there are.
        cache: the teacher's features of these images, in this order; None: it computes them.
        """
        self.workers = config.workers
        self._paths, self._phrases = list(paths), list(phrases)
        self._config, self._tokenizer = config, tokenizer
        self._steps, self._resolution, self._seed = steps, resolution, seed
        self._process, self._processes = process, processes
        self._cache = cache

    def __len__(self) -> int:
        return self._steps

    def __getitem__(self, step: int) -> DistilBatch:
        count = self._config.images
        first = (step * self._processes + self._process) * count
        numbers = [self._number(first + i) for i in range(count)]
        pixels = torch.stack([square(self._paths[number], self._resolution) for number in numbers])
        rng = np.random.default_rng((self._seed, 104729, step, self._process))
        pairs = count * self._config.questions if self._phrases else 0
        asked = [self._phrases[int(i)] for i in rng.integers(len(self._phrases), size=pairs)] if pairs else []
        return image_batch(
            pixels,
            asked,
            self._tokenizer,
            None if self._cache is None else self._cache.read(numbers),
        )

    def _number(self, position: int) -> int:
        """Which image comes at a position of the endless sequence."""
        around, place = divmod(position, len(self._paths))
        return int(np.random.default_rng((self._seed, around)).permutation(len(self._paths))[place])


def image_batch(
    pixels: Tensor, phrases: list[str], tokenizer: Tokenizer, teacher_levels: list[Tensor] | None = None
) -> DistilBatch:
    """Images and phrases that are asked nothing of: no boxes, no objects."""
    pairs = len(phrases)
    index = torch.arange(pairs) % max(1, len(pixels))
    nothing = torch.zeros(pairs, 1, dtype=torch.bool)
    return DistilBatch(
        pixels=pixels,
        phrases=phrases,
        token_ids=tokenizer(phrases),
        geometry=GeometricPrompt(torch.zeros(pairs, 1, 4), torch.zeros(pairs, 1, dtype=torch.long), ~nothing),
        image_index=index,
        exemplar_index=index,
        targets=Targets(torch.zeros(pairs, 1, 4), nothing, nothing.any(1), None, nothing),
        teacher_levels=teacher_levels,
    )


def square(path: Path, resolution: int) -> Tensor:
    """An image file as (3, resolution, resolution) uint8, stretched with antialiasing as in use."""
    return square_pixels(load_image(path).pixels, resolution)


def read_phrases(path: Path) -> list[str]:
    """A phrase per line, each once.

    Raises:
        DataError: the file cannot be read, or holds none.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is no list of phrases, one per line: {error}") from error
    phrases = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    if not phrases:
        raise DataError(f"{path} holds no phrase; write one per line")
    return phrases
