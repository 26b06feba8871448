"""What a recipe leaves open, decided from the model and the data."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from conceptseg.data.concept_data import ConceptDataset
from conceptseg.finetune.forgetting import rehearsal_share
from conceptseg.finetune.recipe import PARTS, FinetuneRecipe
from conceptseg.models.config import PYRAMIDS, ModelConfig

# The smaller quarter of the smallest phrase's objects should be this many pixels wide: two cells of the map
# that is read at a stride of 8, and four of the map that masks are drawn on.
LEAST_OBJECT = 14.0
MOST_ENLARGED = (
    2.0  # times the model's own resolution: what a larger square costs grows with its fourth power
)
QUERIES_PER_OBJECT = 2.0  # at so many for each object of a dense image, every object has one close by
MOST_QUERIES = 400
STEPS = (300, 800)  # on the data, least and most, when neither epochs nor steps are said
EPOCHS = 25.0  # likewise
OBJECTS_LOOKED_AT = 300  # images whose objects are measured

# What such words name is seen from above or through a microscope, and has no up and down.
WITHOUT_UP = frozenset(
    "cell cells nucleus nuclei platelet platelets bacterium bacteria organoid organoids colony colonies "
    "neuron neurons glomerulus mitochondria yeast spore spores pollen erythrocyte leukocyte lymphocyte "
    "particle particles satellite aerial".split()
)


@dataclass(frozen=True)
class Crowding:
    """How large a dataset's objects are, and how many an image shows.

    Attributes:
        smallest: side of the smaller quarter of the smallest phrase's objects, as a share of the image's.
        typical: the middle one of all sides, likewise.
        most: objects of one phrase in one image, of which 19 in 20 images show fewer.
    """

    smallest: float
    typical: float
    most: int


def settle(recipe: FinetuneRecipe, dataset: ConceptDataset, config: ModelConfig) -> FinetuneRecipe:
    """The recipe with nothing left open; the same one whenever it is asked for.

    Args:
        recipe: as given.
        dataset: to train on.
        config: of the model.
    """
    architecture, own = config.architecture, config.preprocessing.resolution
    only = recipe.only
    if only is None:
        # A network as small as `nano` has seen little, and learns all of itself anew; a large one has seen
        # far more than any data of one's own, and its encoders would only forget.
        only = "all" if isinstance(architecture.vision, PYRAMIDS) else "heads"
    crowding = measure(dataset)
    resolution = recipe.resolution or fitting_resolution(crowding, own, architecture.vision.stride)
    turns = recipe.batch.augment.turns
    if turns is None:
        turns = without_up(dataset.phrases)
    share = rehearsal_share(recipe.keep, config)
    steps = _steps(recipe, len(dataset), share)
    return dataclasses.replace(
        recipe,
        only=only,
        trainable=recipe.trainable or PARTS[only],
        resolution=resolution,
        window_resolution=recipe.window_resolution or min(resolution, own),
        queries=recipe.queries or fitting_queries(crowding, architecture.decoder.queries, only),
        query_side=recipe.query_side or round(crowding.typical, 4),
        epochs=None,
        step_count=steps,
        looks=None,
        validate_every=recipe.validate_every if recipe.looks is None else math.ceil(steps / recipe.looks),
        keep=dataclasses.replace(recipe.keep, rehearsal=share),
        batch=dataclasses.replace(
            recipe.batch, augment=dataclasses.replace(recipe.batch.augment, turns=turns)
        ),
    )


def measure(dataset: ConceptDataset) -> Crowding:
    """Sizes and numbers of objects, from some of the images."""
    sides: dict[str, list[float]] = {}
    counts: list[int] = []
    for index in range(0, len(dataset), max(1, len(dataset) // OBJECTS_LOOKED_AT)):
        image = dataset[index]
        for phrase, objects in image.phrases.items():
            counts.append(len(objects))
            for it in objects:
                x0, y0, x1, y1 = it.box_xyxy
                share = (x1 - x0) / image.width * ((y1 - y0) / image.height)
                sides.setdefault(phrase, []).append(math.sqrt(share))
    if not sides:
        return Crowding(1.0, 1.0, 0)
    return Crowding(
        smallest=min(float(np.quantile(values, 0.25)) for values in sides.values()),
        typical=float(np.median([side for values in sides.values() for side in values])),
        most=int(np.quantile(counts, 0.95)),
    )


def fitting_resolution(crowding: Crowding, own: int, stride: int) -> int:
    """The model's own resolution, or a larger one where the data's objects would be too small to see."""
    wanted = min(max(LEAST_OBJECT / max(crowding.smallest, 1e-6), own), own * MOST_ENLARGED)
    return max(own, math.floor(wanted / stride + 0.5) * stride)


def fitting_queries(crowding: Crowding, own: int, only: str) -> int:
    """As many as the model has, or more where images are dense and the decoder is trained."""
    if PARTS[only] and "decoder" not in PARTS[only]:
        return own
    return max(own, min(math.ceil(QUERIES_PER_OBJECT * crowding.most / 50) * 50, MOST_QUERIES))


def _steps(recipe: FinetuneRecipe, images: int, rehearsal: float) -> int:
    """Steps of the run; those that rehearse come on top of what the data asks for."""
    if recipe.step_count is not None:
        return recipe.step_count
    epochs = EPOCHS if recipe.epochs is None else recipe.epochs
    steps = math.ceil(epochs * images / recipe.batch.images)
    if recipe.epochs is None:
        steps = min(max(steps, STEPS[0]), STEPS[1])
    return round(steps / (1 - rehearsal))


def without_up(phrases: Sequence[str]) -> bool:
    """Whether every phrase names what may lie any way round."""
    return bool(phrases) and all(WITHOUT_UP & set(phrase.lower().split()) for phrase in phrases)
