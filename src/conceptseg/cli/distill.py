"""`conceptseg distill`: teach a student what a teacher knows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from conceptseg.cli.help import examples
from conceptseg.cli.interrupted import Interrupted
from conceptseg.cli.output_folder import check_output_folder


def register(app: typer.Typer) -> None:
    app.command(
        epilog=examples(
            "conceptseg distill --teacher nano --student nano-student --stage 1 --data scenes --out one",
            "conceptseg distill --teacher nano --student one/model --stage 2 --data scenes --out two",
            "conceptseg distill --teacher sam3.pt --student sam3-repvit --stage 1 --data photos "
            "--phrases nouns.txt --out one steps=50000",
        )
    )(distill)


def distill(
    teacher: Annotated[
        str, typer.Option(metavar="T", help="The model that is imitated: name, path, repository.")
    ],
    student: Annotated[
        str,
        typer.Option(
            metavar="S", help="Stage 1: a preset or a model; after that the model of the stage before."
        ),
    ],
    stage: Annotated[
        int,
        typer.Option(min=1, max=3, help="1 encoders apart; 2 through the fusion; 3 the same with labels."),
    ],
    data: Annotated[
        str,
        typer.Option(metavar="DATA", help='"scenes", a labelled dataset, or (stage 1) a folder of images.'),
    ],
    out: Annotated[Path, typer.Option(metavar="RUN", help="Run folder; the student is RUN/model.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Entries of the recipe to change.")
    ] = None,
    phrases: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A phrase per line, for a folder of images.")
    ] = None,
    recipe: Annotated[
        str | None, typer.Option(help="Name or YAML file; distil-1, distil-2 or distil-3 if not given.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run in --out stopped.")] = False,
) -> None:
    """Distil one stage.

    Writes a run folder: the resolved recipe, a curve of every loss, checkpoints, and the student, which loads
    like any model.
    """
    check_output_folder(out)

    from conceptseg.distil.run import train_recipe

    said = {"teacher": teacher, "student": student, "stage": stage, "data.source": data}
    if phrases is not None:
        said["data.phrases"] = str(phrases)
    # JSON is YAML: a path that looks like a number or a yes stays a path.
    options = [f"{key}={json.dumps(value)}" for key, value in said.items()]
    try:
        model = train_recipe(recipe or f"distil-{stage}", [*options, *(overrides or [])], out, resume)
    except KeyboardInterrupt as stop:
        raise Interrupted(str(stop) or "interrupted; go on with --resume") from stop
    print(f"wrote {model}")
