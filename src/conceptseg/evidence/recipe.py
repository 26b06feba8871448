"""The recipe of the evidence: which weights, how many pictures; a YAML file, changed by `pin` alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from conceptseg.checkpoints.atomic_write import write_text
from conceptseg.errors import ConfigError
from conceptseg.models.config import config_from_dict


@dataclass(frozen=True)
class EvidenceRecipe:
    """What all claims are measured on."""

    model: str = "nano"
    weights: str | None = None  # digest of the files that are meant (`pin` fills it in); None: any
    seed: int = 0  # of scenes, choices and orders
    fresh_seeds: tuple[int, ...] = (0, 1, 2)  # of freshly initialised exemplar encoders


def read_evidence_recipe(path: Path) -> EvidenceRecipe:
    """Raises:
    ConfigError: no such file, an unknown key, or a value of the wrong type.
    """
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold the entries of a recipe")
    return config_from_dict(EvidenceRecipe, values, "recipe")


def pin(path: Path, digest: str) -> None:
    """Write the weights that the recipe is about into it; the rest of the file stays."""
    lines = path.read_text(encoding="utf-8").splitlines()
    number = next((i for i, line in enumerate(lines) if line.split(":")[0].strip() == "weights"), None)
    if number is None:
        raise ConfigError(f"{path} has no entry `weights:` to be pinned")
    comment = lines[number].partition("#")[2]
    lines[number] = f'weights: "{digest}"' + (f"  #{comment}" if comment else "")
    write_text(path, "\n".join(lines) + "\n")
