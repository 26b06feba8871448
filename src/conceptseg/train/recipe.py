"""A recipe says everything about a training run; it is YAML over these dataclasses.

`load_recipe("nano")` reads a packaged recipe, `load_recipe("mine.yaml")` a file; overrides are
`section.key=value`.
"""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import yaml

from conceptseg.data.scene_batches import SceneDataConfig
from conceptseg.errors import ConfigError
from conceptseg.losses.detection import DetectionLossConfig, LossWeights
from conceptseg.models.config import DetectorConfig, PreprocessingConfig, config_from_dict
from conceptseg.models.presets import PRESETS


@dataclass(frozen=True)
class ModelChoice:
    """What is trained."""

    preset: str = "nano"  # sizes to start from, see models/presets.py
    architecture: dict[str, Any] = field(default_factory=dict)  # laid over the preset: {decoder: {layers: 2}}
    start: str | None = None  # a model folder whose weights are taken; None starts from random weights
    start_partly: bool = False  # take what fits, when the folder's architecture is another one
    start_without: tuple[str, ...] = ()  # parts that start afresh all the same: text_encoder, scoring, ...

    def __post_init__(self) -> None:
        if self.preset not in PRESETS:
            raise ConfigError(f"model.preset is {self.preset!r}; choose {', '.join(PRESETS)}")
        self.detector_config()  # a wrong size is an error of the recipe, found when it is read

    def detector_config(self) -> DetectorConfig:
        """The preset with `architecture` laid over it.

        Raises:
            ConfigError: unknown keys, wrong types, or sizes that do not go together.
        """
        values = _laid_over(PRESETS[self.preset].to_dict(), self.architecture)
        return config_from_dict(DetectorConfig, values, "model.architecture")


@dataclass(frozen=True)
class OptimiserConfig:
    """AdamW with a warm-up and a cosine decay."""

    lr: float = 4e-4
    vision_lr: float | None = None  # of the vision encoder; None: as the rest
    weight_decay: float = 0.05  # not for biases, norms, embeddings and positions
    betas: tuple[float, ...] = (0.9, 0.98)
    warmup_steps: int = 300
    schedule_steps: int | None = None  # length of the schedule; None: the run's. A longer one is left early
    final_lr: float = 0.01  # share of `lr` that is left at the last step
    clip_norm: float = 1.0  # gradients are scaled down to this L2 norm

    def __post_init__(self) -> None:
        _check(self.lr > 0, "optimiser.lr", self.lr, "above 0")
        _check(self.vision_lr is None or self.vision_lr > 0, "optimiser.vision_lr", self.vision_lr, "above 0")
        _check(self.weight_decay >= 0, "optimiser.weight_decay", self.weight_decay, "0 or more")
        two = len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas)
        _check(two, "optimiser.betas", list(self.betas), "two numbers from 0 to below 1")
        _check(self.warmup_steps >= 0, "optimiser.warmup_steps", self.warmup_steps, "0 or more")
        _check(0 <= self.final_lr <= 1, "optimiser.final_lr", self.final_lr, "a share from 0 to 1")
        _check(self.clip_norm > 0, "optimiser.clip_norm", self.clip_norm, "above 0")


@dataclass(frozen=True)
class Recipe:
    """One training run."""

    name: str = "nano"
    seed: int = 0
    model: ModelChoice = field(default_factory=ModelChoice)
    preprocessing: PreprocessingConfig = field(default_factory=lambda: PreprocessingConfig(resolution=192))
    data: SceneDataConfig = field(default_factory=SceneDataConfig)
    optimiser: OptimiserConfig = field(default_factory=OptimiserConfig)
    loss: DetectionLossConfig = field(default_factory=DetectionLossConfig)
    weights: LossWeights = field(default_factory=LossWeights)
    precision: Literal["bf16", "float32"] = "bf16"
    ema_decay: float = 0.999  # of the averaged weights that the run ends with; 0 keeps the last ones
    save_every: int = 200  # steps between checkpoints
    log_every: int = 10  # steps between lines of metrics.jsonl
    validate_every: int = 1000  # steps between looks at held-out scenes
    validation_batches: int = 8  # of the last stage's size
    licence: str | None = None  # of the trained weights; `conceptseg models info` shows it
    weights_dtype: Literal["bfloat16", "float16", "float32"] = "bfloat16"  # on disk

    def __post_init__(self) -> None:
        plain = self.name not in ("", ".", "..") and not set("/\\") & set(self.name)
        _check(plain, "name", self.name, "fit to be the name of a folder")
        _check(self.seed >= 0, "seed", self.seed, "0 or more")
        _check(0 <= self.ema_decay < 1, "ema_decay", self.ema_decay, "from 0 to below 1")
        for name in ("save_every", "log_every", "validate_every"):
            _check(getattr(self, name) >= 1, name, getattr(self, name), "1 or more")
        _check(self.validation_batches >= 0, "validation_batches", self.validation_batches, "0 or more")
        stride = self.model.detector_config().vision.stride
        sides = {"preprocessing.resolution": self.preprocessing.resolution}
        sides |= {f"data.stages.{i}.resolution": stage.resolution for i, stage in enumerate(self.data.stages)}
        for name, side in sides.items():
            _check(side > 0 and side % stride == 0, name, side, f"a multiple of {stride} for this model")

    @property
    def steps(self) -> int:
        return self.data.steps


def load_recipe(source: str | Path, overrides: list[str] | None = None) -> Recipe:
    """Read a recipe.

    Args:
        source: name of a packaged recipe, or path of a YAML file.
        overrides: `section.key=value`, the value in YAML; list items by number: `data.stages.0.steps=50`.

    Raises:
        ConfigError: unknown name, unknown key, or a value of the wrong type.
    """
    values = _read(source)
    for override in overrides or []:
        _apply(values, override)
    return config_from_dict(Recipe, values, "recipe")


def dump_recipe(recipe: Recipe) -> str:
    """The recipe with every default written out."""
    return yaml.safe_dump(_plain(dataclasses.asdict(recipe)), sort_keys=False)


def differences(one: Recipe, other: Recipe) -> list[str]:
    """Where two recipes differ: `optimiser.lr is 0.0004 and 0.001`."""
    return _differences(_plain(dataclasses.asdict(one)), _plain(dataclasses.asdict(other)), "")


def recipe_names() -> list[str]:
    """Names of the packaged recipes."""
    names = [entry.name for entry in (files("conceptseg") / "recipes").iterdir()]
    return sorted(name.removesuffix(".yaml") for name in names if name.endswith(".yaml"))


class _Loader(yaml.SafeLoader):
    """YAML in which 1e-4 is a number; the standard asks for 1.0e-4 and takes the other for a word."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def _read(source: str | Path) -> dict[str, Any]:
    path = Path(source)
    if path.suffix in {".yaml", ".yml"}:
        if not path.is_file():
            raise ConfigError(f"no recipe file {path}")
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError as error:
            raise ConfigError(f"{path} is not a text file in UTF-8: {error}") from error
    elif str(source) in recipe_names():
        text = (files("conceptseg") / "recipes" / f"{source}.yaml").read_text(encoding="utf-8")
    else:
        known = ", ".join(recipe_names())
        raise ConfigError(f"no recipe {str(source)!r}; give a .yaml file or one of {known}")
    values = _parse(text, str(source))
    if not isinstance(values, dict):
        raise ConfigError(f"{source} must hold a mapping")
    return values


def _parse(text: str, where: str) -> Any:
    try:
        return yaml.load(text, _Loader)  # a SafeLoader: plain values only
    except yaml.YAMLError as error:
        raise ConfigError(f"{where} is no valid YAML: {' '.join(str(error).split())}") from error


def _apply(values: dict[str, Any], override: str) -> None:
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"override {override!r} is not of the form key=value")
    *parents, last = key.split(".")
    place: Any = values
    for parent in parents:
        place = place[_index(place, parent, key)] if isinstance(place, list) else place.setdefault(parent, {})
        if not isinstance(place, (dict, list)):
            raise ConfigError(f"override {key}: {parent} is a value, not a section")
    value = _parse(text, f"override {override!r}")
    if isinstance(place, list):
        place[_index(place, last, key)] = value
    else:
        place[last] = value


def _index(items: list[Any], text: str, key: str) -> int:
    if not text.isdecimal() or int(text) >= len(items):
        raise ConfigError(f"override {key}: {text} is no number from 0 to {len(items) - 1}")
    return int(text)


def _laid_over(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with `changes`, section by section; a section of another `kind` is replaced as a whole."""
    merged = dict(base)
    for key, value in changes.items():
        before = base.get(key)
        if isinstance(before, dict) and isinstance(value, dict):
            same_kind = value.get("kind", before.get("kind")) == before.get("kind")
            merged[key] = _laid_over(before, value) if same_kind else value
        else:
            merged[key] = value
    return merged


def _differences(one: Any, other: Any, where: str) -> list[str]:
    if isinstance(one, dict) and isinstance(other, dict):
        keys = dict.fromkeys([*one, *other])
        return [
            line
            for key in keys
            for line in _differences(one.get(key), other.get(key), f"{where}.{key}" if where else key)
        ]
    return [] if one == other else [f"{where} is {one!r} and {other!r}"]


def _plain(value: Any) -> Any:
    """Tuples as lists, so that YAML stays plain."""
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value


def _check(right: bool, name: str, value: Any, wanted: str) -> None:
    if not right:
        raise ConfigError(f"{name} is {value!r}; it must be {wanted}")
