"""Learn from a teacher through the fusion, and with labels on from there: stages 2 and 3 of distillation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from conceptseg.data.scene_batches import is_scenes
from conceptseg.distil.recipe import DistilRecipe
from conceptseg.distil.run import distil
from conceptseg.errors import OptionError
from conceptseg.extras import require
from conceptseg.presence.repairs.case import (
    RUN,
    Method,
    RepairCase,
    RepairOptions,
    copy_model,
    labelled_pairs,
    overrides_of,
)
from conceptseg.train.recipe_file import read_recipe
from conceptseg.train.run_folder import RunFolder


def distil_through(case: RepairCase) -> dict[str, float]:
    drawn = is_scenes(case.data)
    recipes = stage_recipes(str(case.path), case.data, case.folder, case.options)
    for recipe in recipes:
        run = stage_folder(case.folder, recipe.stage)
        if not (run / "model").is_dir():
            resume = case.options.resume and (run / "recipe.yaml").is_file()
            distil(recipe, run, resume, dataset=None if drawn else case.fit, stop=case.stop)
    copy_model(RunFolder(run), case.folder)
    if drawn:  # every step has images of its own; only stage 3 looks at their labels
        images = {it.stage: it.steps * it.data.images for it in recipes}
        pairs = {it.stage: images[it.stage] * it.data.questions for it in recipes}
        return {"images": sum(images.values()), "pairs": sum(pairs.values()), "labels": pairs.get(3, 0)}
    known = sum(labelled_pairs(case.fit))
    return {"images": len(case.fit), "pairs": known, "labels": known if len(recipes) > 1 else 0}


def stage_recipes(model: str, data: str, folder: Path, options: RepairOptions) -> list[DistilRecipe]:
    """Of stage 2 and, with labels, of stage 3, which goes on with the model of stage 2."""
    recipes = []
    for stage in (2,) if options.labels == "none" else (2, 3):
        said: dict[str, Any] = {"teacher": options.teacher, "student": model, "stage": stage}
        said |= {"data.source": data, "seed": options.seed}
        recipes.append(read_recipe(DistilRecipe, f"distil-{stage}", overrides_of(options, stage), said))
        model = str(stage_folder(folder, stage) / "model")
    return recipes


def stage_folder(folder: Path, stage: int) -> Path:
    return folder / RUN / f"stage-{stage}"


def check(options: RepairOptions) -> None:
    """Raises:
    OptionError: there is no teacher.
    ConfigError: an override that a stage does not have.
    MissingDependencyError: a package of the extra `train` is not installed.
    """
    if options.teacher is None:
        raise OptionError("distilling needs a teacher (--teacher)")
    stage_recipes("", "", Path(), options)
    require("train", "training")


DISTIL = Method(distil_through, check)
