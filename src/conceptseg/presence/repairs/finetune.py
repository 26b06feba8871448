"""Train presence alone on labelled images: see `presence.finetuning`."""

from __future__ import annotations

from conceptseg.errors import OptionError
from conceptseg.extras import require
from conceptseg.presence.finetuning import PresenceJob, PresenceRecipe
from conceptseg.presence.repairs.case import (
    RUN,
    Method,
    RepairCase,
    RepairOptions,
    copy_model,
    labelled_pairs,
    overrides_of,
)
from conceptseg.train.job import run_job
from conceptseg.train.recipe_file import read_recipe
from conceptseg.train.run_folder import RunFolder


def finetune_presence(case: RepairCase) -> dict[str, float]:
    options = case.options
    recipe = presence_recipe(str(case.path), case.data, len(case.fit), options)
    job = PresenceJob(recipe, RunFolder(case.folder / RUN), case.fit)
    run_job(job, options.resume and job.folder.recipe_path.is_file(), case.stop)
    copy_model(job.folder, case.folder)
    steps = max(line["step"] for line in job.folder.metrics())  # fewer than asked where it ended early
    pairs = min(steps * recipe.images * recipe.questions, sum(labelled_pairs(case.fit)))
    return {"images": len(case.fit), "pairs": pairs, "labels": pairs}


def presence_recipe(model: str, data: str, images: int, options: RepairOptions) -> PresenceRecipe:
    said = {"model": model, "data": data, "images_used": images, "seed": options.seed}
    return read_recipe(PresenceRecipe, "presence", overrides_of(options, None), said)


def check(options: RepairOptions) -> None:
    """Raises:
    OptionError: labels are not to be used.
    ConfigError: an override that the recipe does not have.
    MissingDependencyError: a package of the extra `train` is not installed.
    """
    if options.labels == "none":
        raise OptionError("finetune learns from labels; without any use --method calibrate or distil")
    presence_recipe("", "", 0, options)
    require("train", "training")


FINETUNE = Method(finetune_presence, check)
