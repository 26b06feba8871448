"""`conceptseg scenes`: the procedural dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from conceptseg.cli.console import print_json, print_written, progress_bar
from conceptseg.cli.help import examples, show_help
from conceptseg.cli.model_options import AsJson


def register(app: typer.Typer) -> None:
    group = typer.Typer(
        help="Draw scenes whose every object has a mask and a phrase.",
        epilog=examples("conceptseg scenes make scenes --count 1000 --seed 0"),
        invoke_without_command=True,
        rich_markup_mode=None,
    )
    group.callback()(show_help)
    group.command(
        "make", epilog=examples("conceptseg scenes make scenes --count 500 --seed 1 --split held_out")
    )(make)
    app.add_typer(group, name="scenes")


def make(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The split becomes a folder in it.")],
    count: Annotated[int, typer.Option(help="How many scenes.")],
    seed: Annotated[int, typer.Option(help="The same seed draws the same scenes.")] = 0,
    size: Annotated[int, typer.Option(help="Side of the square images, in pixels.")] = 256,
    split: Annotated[
        str, typer.Option(help="train, held_out or unseen (combinations that the others never show).")
    ] = "train",
    workers: Annotated[int, typer.Option(help="Processes; 0 for one per core.")] = 0,
    as_json: AsJson = False,
) -> None:
    """Draw a dataset.

    COCO layout, DIR/SPLIT/_annotations.coco.json beside the images: a category per phrase, masks, boxes, and
    for every image the phrases that name nothing in it. Scenes of an earlier run there are replaced.
    """
    from conceptseg.data.scenes import make_scenes

    with progress_bar("drawing") as advance:
        annotations = make_scenes(
            folder, count, seed, size=size, split=split, workers=workers, progress=advance
        )
    if as_json:
        print_json({"split": split, "count": count, "annotations": str(annotations)})
    scenes = f"{count:,} scene{'s' * (count != 1)}"
    print_written(f"wrote {annotations} and {scenes} beside it", as_json=as_json)
