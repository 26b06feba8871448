"""`conceptseg presence`: what is wrong with a model's presence, and mending it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from conceptseg.cli.console import print_note, print_table, print_written, progress_bar
from conceptseg.cli.help import examples, show_help
from conceptseg.cli.output_folder import check_output_folder

if TYPE_CHECKING:
    from conceptseg.presence.diagnosis import Diagnosis

DATA_HELP = 'Labelled dataset, or "scenes" for drawn ones.'


def register(app: typer.Typer) -> None:
    group = typer.Typer(
        help="Diagnose a model that says no to what is there, and repair it.",
        epilog=examples(
            "conceptseg presence diagnose --model student --teacher nano --data scenes --out diagnosis"
        ),
        invoke_without_command=True,
        rich_markup_mode=None,
    )
    group.callback()(show_help)
    group.command(
        "diagnose",
        epilog=examples(
            "conceptseg presence diagnose --model nano --data my-data --out diagnosis",
            "conceptseg presence diagnose --model student.pt --teacher sam3.pt --data my-data --out found",
        ),
    )(diagnose)
    app.add_typer(group, name="presence")


def diagnose(
    model: Annotated[
        str, typer.Option(metavar="S", help="The model that is judged: name, path, repository.")
    ],
    data: Annotated[str, typer.Option(metavar="DATA", help=DATA_HELP)],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where diagnosis.json and the report go.")],
    teacher: Annotated[
        str | None,
        typer.Option(metavar="T", help="The model that it should be like; without, it is judged alone."),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="Which part of the data; if not given, the held-out one or the only one."),
    ] = None,
    threshold: Annotated[float, typer.Option(min=0, max=1, help="Scores above it are detections.")] = 0.5,
    absent: Annotated[
        list[str] | None,
        typer.Option(metavar="PHRASE", help="Ask it wherever it is not annotated, too; may be repeated."),
    ] = None,
    phrases: Annotated[
        int | None, typer.Option(min=1, help="At most so many present and as many absent phrases per image.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Only the first so many images; scenes: how many.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the scenes.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16, float16.")] = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print diagnosis.json instead of tables.")] = False,
) -> None:
    """Say what is wrong with a model's presence, where it comes from, and which repair fits.

    Present and absent phrases are asked alike. With a teacher, the report also shows where features drift:
    trunk, neck, text, example boxes, memory, decoder, presence.
    """
    check_output_folder(out)

    from conceptseg.presence.diagnosis import diagnose as diagnose_model
    from conceptseg.presence.report import diagnosis_json

    with progress_bar("asking") as advance:
        diagnosis = diagnose_model(
            model,
            data,
            teacher,
            split=split,
            threshold=threshold,
            limit=limit,
            absent=absent or (),
            phrases=phrases,
            seed=seed,
            device=device,
            dtype=dtype,
            progress=advance,
        )
    report = diagnosis.save(out)
    for note in diagnosis.notes:
        print_note(f"note: {note}")
    if as_json:
        print(diagnosis_json(diagnosis), end="")
    else:
        _print(diagnosis)
    print_written(f"wrote {out / 'diagnosis.json'} and {report}", as_json=as_json)


def _print(diagnosis: Diagnosis) -> None:
    from conceptseg.presence.report import DRIFT_HEADINGS, drift_rows, figure_rows

    columns = [diagnosis.student] if diagnosis.teacher is None else [diagnosis.teacher, diagnosis.student]
    names = ["model"] if diagnosis.teacher is None else ["teacher", "model"]
    print_table(["presence", *names], figure_rows(columns), numbers=names)
    if diagnosis.drift:
        print_table(DRIFT_HEADINGS, drift_rows(diagnosis), numbers=DRIFT_HEADINGS[1:])
    print(f"verdict: {diagnosis.verdict.repair}: {diagnosis.verdict.reason}")
