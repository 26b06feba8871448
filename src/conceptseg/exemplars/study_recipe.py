"""The recipe of a study: which encoders, which losses, how many seeds, and what is measured on what."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from conceptseg.errors import ConfigError
from conceptseg.exemplars.align_recipe import AlignRecipe
from conceptseg.losses.alignment import AlignmentConfig
from conceptseg.models.config import (
    AdaptiveConfig,
    AnyExemplarConfig,
    BridgeConfig,
    ExemplarConfig,
    RoiTransformerConfig,
    UnifiedConfig,
    config_from_dict,
)
from conceptseg.train.recipe_file import recipe_values

Losses: TypeAlias = Literal["none", "contrastive", "distillation", "both"]


@dataclass(frozen=True)
class StudyRecipe:
    """Every encoder with every choice of losses, each with every seed; all else is the same."""

    task: Literal["study"] = "study"
    name: str = "exemplar-study"
    align: AlignRecipe = field(default_factory=AlignRecipe)  # of all runs; each starts a fresh encoder
    encoders: tuple[AnyExemplarConfig, ...] = (
        ExemplarConfig(),
        RoiTransformerConfig(),
        UnifiedConfig(),
        BridgeConfig(),
        AdaptiveConfig(),
    )
    losses: tuple[Losses, ...] = ("none", "contrastive", "distillation", "both")
    seeds: tuple[int, ...] = (0, 1, 2)
    target_f1: float = 0.4  # of the boxes on held-out pictures; convergence is the steps to it
    scenes: int = 32  # held-out scenes that are searched, and as many with unseen combinations
    robustness_scenes: int = 12
    gap_images: int = 16
    least_difficulty: float = 0.8  # of the scenes that are searched

    def __post_init__(self) -> None:
        for name in ("encoders", "losses", "seeds"):
            values = getattr(self, name)
            if not values or len(set(values)) < len(values):
                raise ConfigError(f"{name} of the study must hold at least one, and none twice")
        if self.scenes < 2 or self.scenes % 2 or self.robustness_scenes < 1 or self.gap_images < 4:
            raise ConfigError(
                "the study needs an even number of scenes >= 2, robustness_scenes >= 1 and gap_images >= 4"
            )
        if not 0 < self.target_f1 <= 1:
            raise ConfigError(f"target_f1 is {self.target_f1}; it must be above 0 and up to 1")

    def cells(self) -> Iterator[Cell]:
        """Every run; all of one seed come before the next, so that an early end leaves a whole table."""
        for seed in self.seeds:
            for encoder in self.encoders:
                for losses in self.losses:
                    yield Cell(encoder, losses, seed)

    def run_recipe(self, cell: Cell) -> AlignRecipe:
        """What a cell trains."""
        alignment = dataclasses.replace(
            self.align.alignment,
            contrastive=self._contrastive(cell.losses),
            distillation=cell.losses in ("distillation", "both"),
        )
        return dataclasses.replace(
            self.align,
            name=cell.name,
            seed=cell.seed,
            exemplar=cell.encoder,
            fresh=True,
            alignment=alignment,
            log_every=1,
        )

    def _contrastive(self, losses: Losses) -> Literal["none", "sigmoid", "info_nce"]:
        if losses in ("none", "distillation"):
            return "none"
        form = self.align.alignment.contrastive
        return form if form != "none" else AlignmentConfig().contrastive


@dataclass(frozen=True)
class Cell:
    """One run of a study."""

    encoder: AnyExemplarConfig
    losses: Losses
    seed: int

    @property
    def encoder_name(self) -> str:
        alone = isinstance(self.encoder, AdaptiveConfig) and not self.encoder.context
        return "adaptive-no-context" if alone else self.encoder.kind

    @property
    def name(self) -> str:
        return f"{self.encoder_name}-{self.losses}-{self.seed}"


def load_study_recipe(source: str | Path, overrides: Sequence[str] | None = None) -> StudyRecipe:
    """Read a recipe of a study; see `recipe_file.read_recipe` for the arguments.

    Raises:
        ConfigError: unknown name, unknown key, or a value of the wrong type.
    """
    return config_from_dict(StudyRecipe, recipe_values(source, overrides), "recipe")
