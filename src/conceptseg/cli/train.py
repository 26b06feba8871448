"""`conceptseg train`: run a recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from conceptseg.cli.help import examples
from conceptseg.cli.interrupted import Interrupted


def register(app: typer.Typer) -> None:
    app.command(
        epilog=examples("conceptseg train nano", "conceptseg train nano seed=1 --out runs/nano-1 --resume")
    )(train)


def train(
    recipe: Annotated[
        str, typer.Argument(metavar="RECIPE", help="Name of a packaged recipe, or the path of a YAML file.")
    ],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Entries of the recipe to change.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run in --out stopped.")] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="RUN", help="Run folder; runs/RECIPE if not given.")
    ] = None,
) -> None:
    """Train a model by a recipe.

    Writes a run folder: the resolved recipe, metrics, checkpoints, and the trained model.
    """
    from conceptseg.cli.recipes import trainer_of
    from conceptseg.train.recipe_file import recipe_task

    train_recipe = trainer_of(recipe_task(recipe, overrides or []))
    try:
        model = train_recipe(recipe, overrides or [], out, resume)
    except KeyboardInterrupt as stop:
        raise Interrupted(str(stop) or "interrupted; go on with --resume") from stop
    print(f"wrote {model}")
