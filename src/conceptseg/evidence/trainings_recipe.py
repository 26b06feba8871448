"""Which short trainings the claims F1 and G5 to G10 rest on: variants of one recipe, each with every seed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import yaml

from conceptseg.errors import ConfigError
from conceptseg.exemplars.align_recipe import AlignRecipe, load_align_recipe
from conceptseg.models.config import config_from_dict
from conceptseg.train.run_config import check

Asks: TypeAlias = Literal["boxes", "phrases"]


@dataclass(frozen=True)
class Variant:
    """One of the things that are compared."""

    group: str = ""  # variants of a group are in one table
    model: str | None = None  # another than the recipe's; {seed} in its path stands for the seed
    architecture: dict[str, Any] = field(default_factory=dict)  # laid over the model's
    fresh: tuple[str, ...] = ()  # parts that start from random weights
    zero: tuple[str, ...] = ()  # parts that start at nothing, so that a finished model begins as it is
    recipe: tuple[str, ...] = ()  # overrides of the recipe `align`, after those of all variants
    asks: Asks = "boxes"  # what it is judged by
    gradients: int = 0  # examples whose gradients through the two encoders are compared, before and after


@dataclass(frozen=True)
class TrainingsRecipe:
    """What all variants share: the model, the pictures that judge, the seeds."""

    model: str = "nano"
    weights: str | None = None  # digest of the files that are meant; None: any
    seeds: tuple[int, ...] = (0, 1, 2)
    scenes: int = 200  # held-out scenes that judge
    photographs: int = 200  # likewise, of nouns that no training here sees
    recipe: tuple[str, ...] = ()  # overrides of the recipe `align`
    variants: dict[str, Variant] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check(bool(self.seeds) and len(set(self.seeds)) == len(self.seeds), "seeds", self.seeds, "some, once")
        check(bool(self.variants), "variants", {}, "at least one")
        check(min(self.scenes, self.photographs) >= 2, "scenes, photographs", self.scenes, "two or more")

    def of(self, name: str, seed: int) -> AlignRecipe:
        """What a variant trains with a seed."""
        try:
            overrides = [*self.recipe, *self.variants[name].recipe, f"name={name}", f"seed={seed}"]
            return load_align_recipe("align", [*overrides, "log_every=1", "ema_decay=0.0"])
        except ConfigError as error:
            raise ConfigError(f"variant {name}: {error}") from error


def read_trainings(path: Path) -> TrainingsRecipe:
    """Read and check a recipe.

    Raises:
        ConfigError: no such file, an unknown key, or a value that does not do.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    if not isinstance(values, dict) or not isinstance(values.get("variants"), dict):
        raise ConfigError(f"{path} must hold the entries of a recipe, `variants` among them")
    values["variants"] = {
        name: config_from_dict(Variant, found, f"variants.{name}")
        for name, found in values["variants"].items()
    }
    recipe = config_from_dict(TrainingsRecipe, values, "recipe")
    for name in recipe.variants:
        recipe.of(name, recipe.seeds[0])
    return recipe
