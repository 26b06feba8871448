"""The recipe of an alignment: which model, what of it trains, on which pool of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from conceptseg.errors import ConfigError
from conceptseg.exemplars.pool import PoolConfig
from conceptseg.losses.alignment import AlignmentConfig
from conceptseg.losses.detection import DetectionLossConfig, LossWeights
from conceptseg.models.config import AnyExemplarConfig
from conceptseg.train.phases import PROGRESSIVE, AlignmentPhase, check_phases
from conceptseg.train.recipe_file import read_recipe
from conceptseg.train.run_config import RunConfig, check

FEATURES = ("vision_encoder", "neck")  # what makes the features of an image


@dataclass(frozen=True)
class AlignRecipe(RunConfig):
    """Train the exemplar path of a model, all else frozen unless `trainable` says otherwise."""

    task: Literal["align"] = "align"
    name: str = "align"
    model: str = "nano"  # whatever can be loaded: a student, a fine-tuned model, a released one
    exemplar: AnyExemplarConfig | None = None  # another encoder in its place; None keeps the model's
    fresh: bool = False  # start the exemplar encoder from random weights, even where the model's would fit
    train_steps: int = 600
    pool: PoolConfig = field(default_factory=PoolConfig)
    keep_features: bool = True  # compute the features of the pool once; needs the vision encoder frozen
    trainable: tuple[str, ...] = ("exemplar_encoder",)
    one_to_many: bool = False  # the decoder's auxiliary queries: twice the cost of a step
    alignment: AlignmentConfig = field(default_factory=AlignmentConfig)
    teacher: str | None = None  # whose image features ROI distillation tells; None: the model's own
    phases: tuple[AlignmentPhase, ...] = PROGRESSIVE
    loss: DetectionLossConfig = field(default_factory=DetectionLossConfig)
    weights: LossWeights = field(default_factory=LossWeights)
    validation_batches: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.train_steps >= 1, "train_steps", self.train_steps, "1 or more")
        check(self.validation_batches >= 0, "validation_batches", self.validation_batches, "0 or more")
        check(bool(self.trainable), "trainable", list(self.trainable), "at least one part")
        check_phases(self.phases)
        useful = self.teacher is None or self.alignment.distillation
        check(useful, "teacher", self.teacher, "null without alignment.distillation, which alone reads it")
        moving = [part for part in self.trainable if part.split(".")[0] in FEATURES]
        if self.keep_features and moving:
            raise ConfigError(
                f"keep_features is true, but {moving[0]} is trainable and would change the features; "
                "set keep_features=false or freeze it"
            )

    @property
    def steps(self) -> int:
        return self.train_steps


def load_align_recipe(source: str | Path, overrides: Sequence[str] | None = None) -> AlignRecipe:
    """Read a recipe of this task; see `recipe_file.read_recipe`.

    Raises:
        ConfigError: unknown name, unknown key, or a value of the wrong type.
    """
    return read_recipe(AlignRecipe, source, overrides)
