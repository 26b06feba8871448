"""`conceptseg data`: what a dataset holds, and whether it can be used."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from conceptseg.cli.console import print_json, print_table, progress_bar
from conceptseg.cli.help import examples, show_help
from conceptseg.cli.model_options import AsJson

if TYPE_CHECKING:
    from conceptseg.data.check import DatasetReport

PHRASES_SHOWN = 40  # rows; --json has them all


def register(app: typer.Typer) -> None:
    group = typer.Typer(
        help="Look into labelled datasets.",
        epilog=examples("conceptseg data check pictures"),
        invoke_without_command=True,
        rich_markup_mode=None,
    )
    group.callback()(show_help)
    group.command(
        "check",
        epilog=examples(
            "conceptseg data check pictures",
            "conceptseg data check sa-co --annotations gold_attributes.json --images metaclip-images",
        ),
    )(check)
    app.add_typer(group, name="data")


def check(
    data: Annotated[
        Path, typer.Argument(metavar="DATA", help="Folder of the dataset, or its .json or data.yaml.")
    ],
    split: Annotated[str | None, typer.Option(help="Only this one; all if not given.")] = None,
    images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the images lie, if not where the format says.")
    ] = None,
    annotations: Annotated[
        Path | None, typer.Option(metavar="FILE", help="COCO or SA-Co file, if not where the format says.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Say what is in a dataset, and whether it can be used.

    Reads COCO, SA-Co, Roboflow exports and YOLO. Prints splits, phrases, and what deserves a look. Ends with
    exit code 2 when files are missing or annotations malformed.
    """
    from conceptseg.data.check import check_dataset
    from conceptseg.errors import DataError

    with progress_bar("checking") as advance:
        report = check_dataset(data, split, images, annotations, advance)
    if as_json:
        print_json(report.to_dict())
    else:
        _print(report)
    if report.problems:
        raise DataError(f"{data} cannot be used: " + "; ".join(report.problems))
    if not as_json:
        print(f"{data} can be used")


def _print(report: DatasetReport) -> None:
    readable = [split for split in report.splits if split.images]
    if readable:
        print_table(
            ["split", "format", "images", "empty", "objects", "annotated", "crowds", "absent phrases"],
            [
                (
                    split.name,
                    split.layout,
                    f"{split.images:,}",
                    f"{split.empty_images:,}",
                    f"{split.objects:,}",
                    split.masks,
                    f"{split.crowds:,}",
                    "sampled" if split.samples_absent else f"{split.absent_pairs:,} named",
                )
                for split in readable
            ],
            numbers=["images", "empty", "objects", "crowds"],
        )
        _print_phrases(report)
    for split in report.splits:
        for finding in split.notes:
            print(f"note: {split.name}: {finding}")
    for finding in report.notes:
        print(f"note: {finding}")


def _print_phrases(report: DatasetReport) -> None:
    """Images and objects of every phrase, the most frequent first."""
    totals: dict[str, tuple[int, int]] = {}
    for split in report.splits:
        for phrase, count in split.phrases.items():
            images, objects = totals.get(phrase, (0, 0))
            totals[phrase] = images + count.images, objects + count.objects
    ranked = sorted(totals.items(), key=lambda item: (-item[1][1], item[0]))
    print_table(
        ["phrase", "images", "objects"],
        [(phrase, f"{images:,}", f"{objects:,}") for phrase, (images, objects) in ranked[:PHRASES_SHOWN]],
        numbers=["images", "objects"],
    )
    if len(ranked) > PHRASES_SHOWN:
        print(f"and {len(ranked) - PHRASES_SHOWN:,} more phrases; --json has them all")
