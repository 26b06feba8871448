"""Recipes as files: YAML over a task's dataclasses, with overrides `section.key=value`."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import yaml

from conceptseg.errors import ConfigError
from conceptseg.models.config import config_from_dict
from conceptseg.train.run_config import RunConfig

AnyRecipe = TypeVar("AnyRecipe", bound=RunConfig)


def read_recipe(
    kind: type[AnyRecipe],
    source: str | Path,
    overrides: Sequence[str] | None = None,
    values: Mapping[str, Any] | None = None,
) -> AnyRecipe:
    """Read a recipe of one task.

    Args:
        kind: its dataclass.
        source: name of a packaged recipe, or path of a YAML file.
        overrides: `section.key=value`, the value in YAML; list items by number: `data.stages.0.steps=50`.
        values: entries to replace before that, as Python has them: {"optimiser.lr": 1e-4, "data": {...}}.

    Raises:
        ConfigError: unknown name, unknown key, or a value of the wrong type.
    """
    return config_from_dict(kind, recipe_values(source, overrides, values), "recipe")


def recipe_task(source: str | Path, overrides: Sequence[str] | None = None) -> str:
    """Which task a recipe is for: its key `task`; "scenes" where it has none.

    Raises:
        ConfigError: unknown name, or no mapping.
    """
    return str(recipe_values(source, overrides).get("task", "scenes"))


def dump_recipe(recipe: RunConfig) -> str:
    """The recipe with every default written out."""
    return yaml.safe_dump(_plain(dataclasses.asdict(recipe)), sort_keys=False)


def differences(one: RunConfig, other: RunConfig) -> list[str]:
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


def recipe_values(
    source: str | Path, overrides: Sequence[str] | None = None, values: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """The plain values of a recipe, overrides applied, before any dataclass is made of them.

    Raises:
        ConfigError: unknown name, no valid YAML, or an override that fits nowhere.
    """
    found = _read(source)
    for key, value in (values or {}).items():
        _place(found, key, value, key)
    for override in overrides or []:
        key, separator, text = override.partition("=")
        if not separator or not key:
            raise ConfigError(f"override {override!r} is not of the form key=value")
        _place(found, key, _parse(text, f"override {override!r}"), f"override {key}")
    return found


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


def _place(values: dict[str, Any], key: str, value: Any, where: str) -> None:
    """Replace the entry of a dotted key; `where` begins the message of an error."""
    *parents, last = key.split(".")
    place: Any = values
    for parent in parents:
        inner = place[_index(place, parent, where)] if isinstance(place, list) else place.get(parent, {})
        if not isinstance(inner, (dict, list)):
            raise ConfigError(f"{where}: {parent} is a value, not a section")
        if isinstance(place, dict):
            place[parent] = inner
        place = inner
    if isinstance(place, list):
        place[_index(place, last, where)] = value
    else:
        place[last] = value


def _index(items: list[Any], text: str, where: str) -> int:
    if not text.isdecimal() or int(text) >= len(items):
        raise ConfigError(f"{where}: {text} is no number from 0 to {len(items) - 1}")
    return int(text)


def laid_over(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with `changes`, section by section; a section of another `kind` is replaced as a whole."""
    merged = dict(base)
    for key, value in changes.items():
        before = base.get(key)
        if isinstance(before, dict) and isinstance(value, dict):
            same_kind = value.get("kind", before.get("kind")) == before.get("kind")
            merged[key] = laid_over(before, value) if same_kind else value
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
