"""`conceptseg finetune`: a model on data of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from conceptseg.choices import TrainedPart
from conceptseg.cli.console import print_table, print_written
from conceptseg.cli.help import examples
from conceptseg.cli.interrupted import Interrupted
from conceptseg.cli.model_options import ModelName


def register(app: typer.Typer) -> None:
    app.command(
        epilog=examples(
            "conceptseg finetune my-data --out runs/mine",
            "conceptseg finetune my-data --model sam3.pt --only heads --epochs 10 --out runs/mine",
            "conceptseg finetune my-data --model sam3.pt --only heads --lora 16 --out runs/mine",
        )
    )(finetune)


def finetune(
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="Dataset: COCO, Roboflow, SA-Co JSON or YOLO segmentation.")
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Entries of the recipe `finetune` to change."),
    ] = None,
    model: ModelName = "nano",
    out: Annotated[Path, typer.Option(metavar="RUN", help="Run folder.")] = Path("runs/finetune"),
    epochs: Annotated[
        float | None, typer.Option(help="Passes through the data; 25, in 300 to 800 steps, if not given.")
    ] = None,
    only: Annotated[
        TrainedPart | None,
        typer.Option(help="Parts to train; all of a small network, the heads of a large one if not given."),
    ] = None,
    lora: Annotated[
        int | None,
        typer.Option(
            metavar="RANK", help="Tune attention by low rank, for a model too large to train whole: 8 to 64."
        ),
    ] = None,
    resolution: Annotated[
        int | None, typer.Option(help="Side of the model's square; from the objects' size if not given.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the run in --out stopped.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print every figure before and after instead of a table.")
    ] = False,
) -> None:
    """Fine-tune a model on labelled images.

    Writes a run folder: the tuned model, report.md with figures and pictures before and after, the resolved
    recipe, metrics and checkpoints.
    """
    from conceptseg.finetune.report import comparison_json, summary_rows
    from conceptseg.finetune.run import finetune as tune

    try:
        tuned = tune(
            data,
            model,
            out,
            epochs=epochs,
            only=only,
            resolution=resolution,
            overrides=[*_low_rank(lora), *(overrides or [])],
            resume=resume,
        )
    except KeyboardInterrupt as stop:
        raise Interrupted(str(stop) or "interrupted; go on with --resume") from stop
    if tuned.comparison is None:  # the main process speaks for all
        return
    if as_json:
        print(comparison_json(tuned.comparison), end="")
    else:
        print_table(["x 100", "before", "after"], summary_rows(tuned.comparison), numbers=["before", "after"])
    print_written(f"wrote {tuned.model} and {tuned.report}", as_json=as_json)


def _low_rank(rank: int | None) -> list[str]:
    """What `--lora` changes in the recipe."""
    if rank is None:
        return []
    # Next to a large weight a small change is less than half a step of bfloat16, and would be rounded away.
    return [f"lora.rank={rank}", "weights_dtype=float32"]
