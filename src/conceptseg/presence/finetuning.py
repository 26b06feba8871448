"""Train presence alone: its token, its head and its norm, on labelled (image, phrase) pairs.

Everything before the decoder is frozen and gets no gradient. The token takes part in the decoder's attention,
so other answers may move a little although no other weight does; `trainable: [decoder.presence_head]` leaves
the token, and with it every other answer, as it is.

A part of the images is not trained on. Its presence loss says after which step presence was best, and ends
the run when it has got no better for a while.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from conceptseg.checkpoints.loaders import load_checkpoint
from conceptseg.data.batch import Batch
from conceptseg.data.concept_batches import BatchConfig, ConceptBatches
from conceptseg.data.concept_data import ConceptDataset
from conceptseg.data.question_config import AskConfig
from conceptseg.data.view import AugmentConfig
from conceptseg.hub import find_model
from conceptseg.losses.presence import presence_loss
from conceptseg.models.config import ModelConfig, PreprocessingConfig, PresenceCalibration
from conceptseg.models.detector import Detector
from conceptseg.models.prompts import join_prompts
from conceptseg.train.job import Work
from conceptseg.train.run_config import RunConfig, check
from conceptseg.train.run_folder import RunFolder
from conceptseg.train.task import Task
from conceptseg.train.validation import HeldOutLosses, Validation

PRESENCE = ("decoder.presence_token", "decoder.presence_head")
LEAST_HELD_OUT = 5  # images; fewer say nothing, and then all are trained on and the last step's weights kept
# As many absent phrases as present ones: tuned on present ones alone, presence learns to say yes.
EVEN = AskConfig(phrase=0.5, absent_phrase=0.5, boxes=0.0, phrase_and_boxes=0.0, other_image=0.0)
UNCHANGED = AugmentConfig(flip=False, turns=False, windows=0.0, stretch=0.0, colour=0.0)


@dataclass(frozen=True)
class PresenceRecipe(RunConfig):
    """A run that trains presence; the packaged one is `presence`."""

    task: Literal["presence"] = "presence"
    name: str = "presence"
    model: str = ""  # filled in by the repair, as are data and images
    data: str = ""
    images_used: int = 0
    trainable: tuple[str, ...] = PRESENCE
    weights_dtype: Literal["bfloat16", "float16", "float32"] = "float32"  # what is not trained stays as it is
    steps: int = 300
    images: int = 8  # per step
    questions: int = 4  # phrases per image, half of them absent
    ask: AskConfig = EVEN
    augment: AugmentConfig = field(default_factory=lambda: AugmentConfig(turns=False, windows=0.0))
    workers: int = 0
    held_out: float = 0.2  # share of the images that say which step was best; 0: all are trained on
    layers_weight: float = 0.5  # of the decoder layers before the last, whose loss weighs 1

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.steps >= 1, "steps", self.steps, "1 or more")
        check(0 <= self.held_out < 1, "held_out", self.held_out, "a share from 0 to below 1")
        check(self.layers_weight >= 0, "layers_weight", self.layers_weight, "0 or more")
        strange = [part for part in self.trainable if not part.startswith("decoder.presence_")]
        check(not strange and bool(self.trainable), "trainable", list(self.trainable), f"of {list(PRESENCE)}")
        check(not self.lora.rank, "lora.rank", self.lora.rank, "0: nothing but presence is trained")


class PresenceTask(Task):
    """Is the concept there at all? Nothing else is asked."""

    def __init__(self, detector: Detector, preprocessing: PreprocessingConfig, layers_weight: float) -> None:
        super().__init__(detector, preprocessing)
        self.layers_weight = layers_weight

    def forward(self, batch: Batch, num_boxes: Tensor) -> dict[str, Tensor]:
        logits = self.presence_logits(batch)  # (L, B)
        with torch.autocast(logits.device.type, enabled=False):
            losses = presence_loss(logits.float(), batch.targets.present)  # (L,)
        return {"presence": losses[-1], "aux_presence": losses[:-1].sum()}

    def presence_logits(self, batch: Batch) -> Tensor:
        """(L, B): as in `Detector.detect`, without what presence does not need."""
        detector = self.detector
        with torch.no_grad():
            image = self.encode_images(batch)
            words = detector.encode_text(batch.token_ids)
            shown = detector.encode_exemplars(image, batch.geometry, batch.exemplar_index)
            fusion = detector.fuse(image, batch.image_index, join_prompts(words, shown))
        return detector.decode(image, fusion).presence_logits

    def loss_weights(self, step: int) -> Mapping[str, float]:
        return {"presence": 1.0, "aux_presence": self.layers_weight}


class PresenceValidation(HeldOutLosses):
    """The presence loss of the last layer, which alone is read in use, says which weights are best."""

    def __call__(self, task: Task, step: int) -> Validation:
        return dataclasses.replace(super().__call__(task, step), decides="loss/presence")


def hold_out(dataset: ConceptDataset, share: float) -> tuple[ConceptDataset, ConceptDataset | None]:
    """Images to train on, and others from all over the dataset; none of these where they would be too few."""
    count = min(round(share * len(dataset)), len(dataset) - 1)
    if count < LEAST_HELD_OUT:
        return dataset, None
    held = {(2 * number + 1) * len(dataset) // (2 * count) for number in range(count)}
    kept = [number for number in range(len(dataset)) if number not in held]
    return dataset.part(kept), dataset.part(sorted(held))


@dataclass
class PresenceJob:
    """One run of it, on images that are already chosen."""

    recipe: PresenceRecipe
    folder: RunFolder
    dataset: ConceptDataset

    def prepare(self) -> None:
        """Nothing lies beside the recipe."""

    def build(self, process: int, processes: int) -> Work:
        recipe = self.recipe
        detector, tokenizer, config = load_checkpoint(find_model(recipe.model))
        task = PresenceTask(detector, config.preprocessing, recipe.layers_weight)
        task.use_one_to_many(False)
        fit, held = hold_out(self.dataset, recipe.held_out)

        def batches(
            data: ConceptDataset, steps: int, augment: AugmentConfig, **shares: int
        ) -> ConceptBatches:
            asked = BatchConfig(recipe.images, recipe.questions, recipe.workers, recipe.ask, augment)
            side = config.preprocessing.resolution
            return ConceptBatches(
                data, tokenizer, asked, steps=steps, resolution=side, turns=False, seed=recipe.seed, **shares
            )

        def looked_at() -> list[Batch]:
            assert held is not None
            found = batches(held, math.ceil(len(held) / recipe.images), UNCHANGED)
            return [found[number] for number in range(len(found))]

        return Work(
            task,
            batches(fit, recipe.steps, recipe.augment, process=process, processes=processes),
            tokenizer,
            config,
            validate=None if held is None else PresenceValidation(looked_at, recipe.precision),
            ends_with_best=held is not None,
        )

    def finish(self, task: Task, work: Work) -> ModelConfig:
        """What was fitted to the head before says nothing about the one that was trained."""
        return dataclasses.replace(
            work.config,
            presence_calibration=PresenceCalibration(),
            presence_mode="multiply",
            provenance={**work.config.provenance, "presence_repair": "finetune"},
        )
