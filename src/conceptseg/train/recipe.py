"""The recipe of training on scenes: `load_recipe("nano")` is packaged, `load_recipe("mine.yaml")` a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from conceptseg.choices import DedupeMode
from conceptseg.data.mixture.config import MixtureConfig
from conceptseg.errors import ConfigError
from conceptseg.losses.detection import DetectionLossConfig, LossWeights
from conceptseg.models.config import DetectorConfig, PreprocessingConfig, config_from_dict
from conceptseg.models.presets import PRESETS
from conceptseg.train.recipe_file import laid_over, read_recipe
from conceptseg.train.run_config import RunConfig, check
from conceptseg.train.trunk_weights import TrunkWeights


@dataclass(frozen=True)
class ModelChoice:
    """What is trained."""

    preset: str = "nano"  # sizes to start from, see models/presets.py
    architecture: dict[str, Any] = field(default_factory=dict)  # laid over the preset: {decoder: {layers: 2}}
    start: str | None = None  # a model folder whose weights are taken; None starts from random weights
    start_partly: bool = False  # take what fits, when the folder's architecture is another one
    start_without: tuple[str, ...] = ()  # parts that start afresh all the same: text_encoder, scoring, ...
    new_tokenizer: bool = False  # learn one from the names of the data, though the starting model has one
    trunk_weights: TrunkWeights | None = (
        None  # what a trunk of the kind "timm" starts from; None: as the rest
    )

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ConfigError(f"model.preset is {self.preset!r}; choose {', '.join(PRESETS)}")
        self.detector_config()  # a wrong size is an error of the recipe, found when it is read

    def detector_config(self) -> DetectorConfig:
        """The preset with `architecture` laid over it.

        Raises:
            ConfigError: unknown keys, wrong types, or sizes that do not go together.
        """
        values = laid_over(PRESETS[self.preset].to_dict(), self.architecture)
        return config_from_dict(DetectorConfig, values, "model.architecture")


@dataclass(frozen=True)
class Recipe(RunConfig):
    """Training on scenes, and on what else `data.sources` names, from random weights or a model's."""

    task: Literal["scenes"] = "scenes"
    name: str = "nano"
    model: ModelChoice = field(default_factory=ModelChoice)
    preprocessing: PreprocessingConfig = field(default_factory=lambda: PreprocessingConfig(resolution=192))
    data: MixtureConfig = field(default_factory=MixtureConfig)
    loss: DetectionLossConfig = field(default_factory=DetectionLossConfig)
    weights: LossWeights = field(default_factory=LossWeights)
    region_scale: float = 4.0  # of the cosines of objects and words at the start, see `RegionAlignment`
    dedupe: DedupeMode = "none"  # what the model that is saved does unless told: see `Segmenter.segment`
    mask_margin: float | None = None  # likewise: see `ModelConfig`
    validation_batches: int = 8  # of the last stage's size
    saved_mask_scale: float = 1.0  # multiplies the mask logits of the model that is saved; changes no mask

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.validation_batches >= 0, "validation_batches", self.validation_batches, "0 or more")
        check(self.region_scale > 0, "region_scale", self.region_scale, "above 0")
        margin = self.mask_margin
        check(margin is None or 0 <= margin < float("inf"), "mask_margin", margin, "none, or 0 or more")
        check(self.saved_mask_scale > 0, "saved_mask_scale", self.saved_mask_scale, "above 0")
        stride = self.model.detector_config().vision.stride
        sides = {"preprocessing.resolution": self.preprocessing.resolution}
        sides |= {f"data.stages.{i}.resolution": stage.resolution for i, stage in enumerate(self.data.stages)}
        for name, side in sides.items():
            check(side > 0 and side % stride == 0, name, side, f"a multiple of {stride} for this model")

    @property
    def steps(self) -> int:
        return self.data.steps


def load_recipe(source: str | Path, overrides: Sequence[str] | None = None) -> Recipe:
    """Read a recipe of this task; see `recipe_file.read_recipe`.

    Raises:
        ConfigError: unknown name, unknown key, or a value of the wrong type.
    """
    return read_recipe(Recipe, source, overrides)
