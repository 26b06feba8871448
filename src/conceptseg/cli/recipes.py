"""Which function trains which recipe: `conceptseg train` looks a recipe's `task` up here."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import TypeAlias

from conceptseg.errors import ConfigError

# (recipe, overrides, run folder or None, resume) -> folder of the trained model.
TrainRecipe: TypeAlias = Callable[[str, list[str], Path | None, bool], Path]

TASKS = {
    "scenes": "conceptseg.train.run:train_recipe",
    "finetune": "conceptseg.finetune.run:train_recipe",
    "distil": "conceptseg.distil.run:train_recipe",
    "align": "conceptseg.exemplars.align_run:train_recipe",
}  # task -> module:function, imported when it is asked for


def trainer_of(task: str) -> TrainRecipe:
    """The function that trains recipes of a task.

    Raises:
        ConfigError: no such task.
    """
    if task not in TASKS:
        raise ConfigError(f"recipe.task is {task!r}; choose {', '.join(TASKS)}")
    module, name = TASKS[task].split(":")
    function: TrainRecipe = getattr(import_module(module), name)
    return function
