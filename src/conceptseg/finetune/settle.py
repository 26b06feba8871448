"""What a recipe leaves open, decided from the model and the data."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from conceptseg.data.concept_data import ConceptDataset
from conceptseg.finetune.recipe import PARTS, FinetuneRecipe
from conceptseg.models.config import ConvNetConfig, ModelConfig

# The smaller quarter of the smallest phrase's objects should be this many pixels wide: two cells of the map
# that is read at a stride of 8, and four of the map that masks are drawn on.
LEAST_OBJECT = 14.0
MOST_ENLARGED = (
    2.0  # times the model's own resolution: what a larger square costs grows with its fourth power
)
STEPS = (300, 900)  # least and most, when neither epochs nor steps are said
EPOCHS = 30.0  # likewise
OBJECTS_LOOKED_AT = 300  # images whose objects are measured

# What such words name is seen from above or through a microscope, and has no up and down.
WITHOUT_UP = frozenset(
    "cell cells nucleus nuclei platelet platelets bacterium bacteria organoid organoids colony colonies "
    "neuron neurons glomerulus mitochondria yeast spore spores pollen erythrocyte leukocyte lymphocyte "
    "particle particles satellite aerial".split()
)


def settle(recipe: FinetuneRecipe, dataset: ConceptDataset, config: ModelConfig) -> FinetuneRecipe:
    """The recipe with nothing left open; the same one whenever it is asked for.

    Args:
        recipe: as given.
        dataset: to train on.
        config: of the model.
    """
    only = recipe.only
    if only is None:
        # A network as small as `nano` has seen little, and learns all of itself anew; a large one has seen
        # far more than any data of one's own, and its encoders would only forget.
        only = "all" if isinstance(config.architecture.vision, ConvNetConfig) else "heads"
    resolution = recipe.resolution
    if resolution is None:
        resolution = fitting_resolution(
            dataset, config.preprocessing.resolution, config.architecture.vision.stride
        )
    per_epoch = len(dataset) / recipe.batch.images
    steps = recipe.step_count
    if steps is None:
        epochs = EPOCHS if recipe.epochs is None else recipe.epochs
        steps = math.ceil(epochs * per_epoch)
        if recipe.epochs is None:
            steps = min(max(steps, STEPS[0]), STEPS[1])
    turns = recipe.batch.augment.turns
    if turns is None:
        turns = without_up(dataset.phrases)
    augment = dataclasses.replace(recipe.batch.augment, turns=turns)
    return dataclasses.replace(
        recipe,
        only=only,
        trainable=recipe.trainable or PARTS[only],
        resolution=resolution,
        window_resolution=recipe.window_resolution or min(resolution, config.preprocessing.resolution),
        epochs=None,
        step_count=steps,
        validate_every=min(recipe.validate_every, max(1, math.ceil(steps / recipe.looks))),
        batch=dataclasses.replace(recipe.batch, augment=augment),
    )


def fitting_resolution(dataset: ConceptDataset, own: int, stride: int) -> int:
    """The model's own resolution, or a larger one where the data's objects would be too small to see."""
    sides: dict[str, list[float]] = {}
    for index in range(0, len(dataset), max(1, len(dataset) // OBJECTS_LOOKED_AT)):
        image = dataset[index]
        for phrase, objects in image.phrases.items():
            for it in objects:
                x0, y0, x1, y1 = it.box_xyxy
                share = (x1 - x0) / image.width * ((y1 - y0) / image.height)
                sides.setdefault(phrase, []).append(math.sqrt(share))
    if not sides:
        return own
    smallest = min(float(np.quantile(values, 0.25)) for values in sides.values())
    wanted = min(max(LEAST_OBJECT / max(smallest, 1e-6), own), own * MOST_ENLARGED)
    return max(own, math.floor(wanted / stride + 0.5) * stride)


def without_up(phrases: Sequence[str]) -> bool:
    """Whether every phrase names what may lie any way round."""
    return bool(phrases) and all(WITHOUT_UP & set(phrase.lower().split()) for phrase in phrases)
