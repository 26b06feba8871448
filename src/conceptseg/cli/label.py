"""`conceptseg label`: phrases and examples on many images, in a way that may be interrupted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from conceptseg.choices import DedupeMode, LabelFormat
from conceptseg.cli.concepts import parse_concepts
from conceptseg.cli.console import print_json, print_note, print_table, print_written, progress_bar
from conceptseg.cli.help import examples
from conceptseg.cli.interrupted import Interrupted
from conceptseg.cli.label_phrases import Asked, parse_phrase, read_phrases, to_concepts
from conceptseg.cli.model_options import (
    AsJson,
    Device,
    Dtype,
    Exemplars,
    GeometryFrom,
    ModelName,
    NegativeExemplars,
    Presence,
    TextContext,
)
from conceptseg.cli.output_folder import check_output_folder
from conceptseg.errors import PromptError

if TYPE_CHECKING:
    from conceptseg.labelling import LabelReport

PROBLEMS_NAMED = 10


def register(app: typer.Typer) -> None:
    app.command(
        epilog=examples(
            "conceptseg label photos/ --text cat --text dog:0.4 --out labels --preview 20",
            "conceptseg label photos/ --text cat --text dog:0.4 --out labels --workers 2 --format yolo",
            "conceptseg label list.txt --exemplar coins.png:189,170,237,217 --name coin --out labels",
        )
    )(label)


def label(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="DIR",
            help="Folders (with what is below them), patterns in quotes, lists of paths (.txt), image files.",
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the labels and the ledger go.")],
    text: Annotated[
        list[str] | None,
        typer.Option(metavar="PHRASE[:THRESHOLD]", help="What to find; may be repeated."),
    ] = None,
    phrases: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="YAML list of phrases with thresholds and examples of their own."),
    ] = None,
    exemplar: Exemplars = None,
    negative_exemplar: NegativeExemplars = None,
    name: Annotated[
        str, typer.Option(help="Category of what is found by examples without a phrase.")
    ] = "object",
    model: ModelName = "nano",
    threshold: Annotated[
        float, typer.Option(min=0, max=1, help="Keep scores above this, where a phrase has none of its own.")
    ] = 0.5,
    presence: Presence = None,
    dedupe: Annotated[
        DedupeMode | None,
        typer.Option(help="Which repeated masks of a phrase go; if not given, as the model's config says."),
    ] = None,
    one_phrase: Annotated[
        bool,
        typer.Option(
            "--one-phrase/--all-phrases",
            help="Keep an object that several phrases found under the best one, or under all.",
        ),
    ] = True,
    max_instances: Annotated[
        int | None, typer.Option(min=1, help="At most so many objects for a phrase, the best.")
    ] = None,
    resolution: Annotated[
        int | None, typer.Option(min=1, help="Side of the square the model sees; if not given, as trained.")
    ] = None,
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            metavar="FORMAT",
            help="coco (if not given), yolo, labelme, label-studio; may be repeated.",
        ),
    ] = None,
    workers: Annotated[
        int,
        typer.Option(min=0, help="Processes of one thread each; 0: this process alone."),
    ] = 0,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Answer on a Ray cluster: auto, HOST:PORT, or local (one here); at most --workers actors.",
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images a worker answers at a time.")] = 8,
    shard_size: Annotated[int, typer.Option(min=1, help="Images in a file of COCO or Label Studio.")] = 1000,
    preview: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, help="Label the first N images into OUT/preview and stop."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Stop if there is nothing to go on with; otherwise as without.")
    ] = False,
    restart: Annotated[
        bool, typer.Option("--restart", help="Throw away what was labelled before; changed files stay.")
    ] = False,
    device: Device = "auto",
    dtype: Dtype = "auto",
    geometry_from: GeometryFrom = None,
    text_context: TextContext = None,
    as_json: AsJson = False,
) -> None:
    """Label many images.

    Run it again, and it does what is left: answers are kept in a ledger in OUT from batch to batch. Other
    settings are refused there. Files that were changed since are never written over.
    """
    given = parse_concepts(exemplar, negative_exemplar)
    asked = [parse_phrase(phrase, threshold, given) for phrase in text or []]
    asked += read_phrases(phrases, threshold) if phrases else []
    if given and not text:
        asked.append(Asked(name, None, threshold, tuple(given)))
    if not asked:
        raise PromptError(
            "nothing was asked; give --text PHRASE, --phrases FILE or --exemplar IMAGE:X0,Y0,X1,Y1"
        )
    check_output_folder(out)

    from conceptseg.labelling import LabelSettings, ModelChoice
    from conceptseg.labelling import label as label_images
    from conceptseg.labelling import preview as label_preview
    from conceptseg.labelling.outputs import check_formats
    from conceptseg.labelling.sources import check_sources

    wanted = check_formats(formats or ["coco"])
    check_sources(sources, out)  # before gigabytes are read
    choice = ModelChoice(model, device, dtype, resolution, geometry_from, text_context)
    segmenter = choice.load()
    settings = LabelSettings(
        concepts=tuple(to_concepts(segmenter, asked)),
        model=choice,
        presence=presence,
        dedupe=dedupe,
        max_instances=max_instances,
        one_phrase=one_phrase,
    )
    try:
        with progress_bar("labelling") as advance:
            shared: dict[str, Any] = {
                "formats": wanted,
                "workers": workers,
                "ray": ray,
                "batch_size": batch_size,
                "shard_size": shard_size,
                "segmenter": segmenter,
                "progress": advance,
            }
            if preview:
                report = label_preview(sources, settings, out, preview, **shared)
            else:
                report = label_images(sources, settings, out, resume=resume, restart=restart, **shared)
    except KeyboardInterrupt as stop:
        raise Interrupted(
            f"interrupted; what is answered is kept in {out}, the same command goes on"
        ) from stop
    _print(report, wanted, as_json)


def _print(report: LabelReport, formats: Sequence[LabelFormat], as_json: bool) -> None:
    for problem in report.problems[:PROBLEMS_NAMED]:
        print_note(f"{problem.state} {problem.path}: {problem.error}")
    more = report.states["failed"] + report.states["skipped"] - PROBLEMS_NAMED
    if more > 0:
        print_note(f"and {more:,} more images without an answer; --json names up to a thousand")
    for path in report.kept[:PROBLEMS_NAMED]:
        print_note(f"kept {path}, which was changed since it was written")
    if len(report.kept) > PROBLEMS_NAMED:
        print_note(f"and {len(report.kept) - PROBLEMS_NAMED:,} more changed files")
    if as_json:
        print_json(report.to_dict())
    else:
        rows = [(name, f"{objects:,}", f"{images:,}") for name, (objects, images) in report.objects.items()]
        print_table(["phrase", "objects", "images with some"], rows, numbers=["objects", "images with some"])
        states = report.states
        print(
            f"{states['done']:,} images labelled, {report.answered:,} looked at in this run; "
            f"{states['skipped']:,} skipped, {states['failed']:,} failed"
        )
    where = ", ".join(str(report.folder / form) for form in formats)
    sheet = f" and {report.folder / 'contact_sheet.jpg'}" if report.states["done"] else ""
    print_written(f"wrote {where}{sheet}", as_json=as_json)
