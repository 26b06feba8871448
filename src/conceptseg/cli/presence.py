"""`conceptseg presence`: what is wrong with a model's presence, and mending it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from conceptseg.choices import Matching, RepairLabels, RepairMethod
from conceptseg.cli.console import print_note, print_table, print_written, progress_bar
from conceptseg.cli.help import examples, show_help
from conceptseg.cli.interrupted import Interrupted
from conceptseg.cli.model_options import Device, Dtype
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
    group.command(
        "repair",
        epilog=examples(
            "conceptseg presence repair --model student --method calibrate --labels none --teacher nano "
            "--data scenes --out mended",
            "conceptseg presence repair --model student --method finetune --data my-data --out mended",
        ),
    )(repair)
    group.command(
        "study",
        epilog=examples(
            "conceptseg presence study --recipe presence-study --out runs/presence-study --resume",
            "conceptseg presence study --recipe presence-study --out small --minutes 30 seeds=[0]",
        ),
    )(study)
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
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print diagnosis.json instead of tables.")] = False,
) -> None:
    """Say what is wrong with a model's presence, where it comes from, and which repair fits.

    Present and absent phrases are asked alike. With a teacher, the report also shows where features drift:
    trunk, neck, text, example boxes, memory, decoder, presence.
    """
    check_output_folder(out)

    from conceptseg.presence.diagnosis import diagnose as diagnose_model
    from conceptseg.presence.report import diagnosis_json, write_diagnosis

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
    report = write_diagnosis(diagnosis, out)
    for note in diagnosis.notes:
        print_note(f"note: {note}")
    if as_json:
        print(diagnosis_json(diagnosis), end="")
    else:
        _print(diagnosis)
    print_written(f"wrote {out / 'diagnosis.json'} and {report}", as_json=as_json)


def repair(
    model: Annotated[str, typer.Option(metavar="S", help="The model to repair; it stays as it is.")],
    method: Annotated[RepairMethod, typer.Option(help="See `presence diagnose` for which one fits.")],
    data: Annotated[str, typer.Option(metavar="DATA", help=DATA_HELP)],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="The repaired model, and repair.md.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE", help="Entries of the recipes to change; of stage 2 alone: 2.KEY."
        ),
    ] = None,
    teacher: Annotated[
        str | None, typer.Option(metavar="T", help="For distil, and for calibrate without labels.")
    ] = None,
    labels: Annotated[RepairLabels, typer.Option(help="none: do not look at labels when fitting.")] = "all",
    offset_only: Annotated[
        bool, typer.Option("--offset-only", help="Calibrate: keep the scale at 1.")
    ] = False,
    matching: Annotated[
        Matching, typer.Option(help="Calibrate without labels: match ranks, or pair by pair.")
    ] = "ranks",
    phrases: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A phrase per line, to calibrate on a folder without labels."),
    ] = None,
    fit_images: Annotated[int | None, typer.Option(min=1, help="Fit on so many images at most.")] = None,
    judge_images: Annotated[int | None, typer.Option(min=1, help="Judge on so many others at most.")] = None,
    threshold: Annotated[float, typer.Option(min=0, max=1, help="Scores from here on count.")] = 0.5,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with an interrupted training.")] = False,
    seed: Annotated[int, typer.Option(min=0, help="Of scenes, and of training.")] = 0,
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print repair.json instead of a table.")] = False,
) -> None:
    """Write a repaired model, and say what it does before and after.

    ignore: scores without presence. calibrate: fit a scale and an offset to the presence logit. finetune:
    train the presence token and head alone. distil: go on learning from the teacher, through the fusion.
    """
    check_output_folder(out)

    from conceptseg.presence.judgement import COLUMNS, judgement_row
    from conceptseg.presence.repairing import REPAIR, REPORT
    from conceptseg.presence.repairing import repair as repair_model
    from conceptseg.presence.repairs.case import RepairOptions
    from conceptseg.presence.unlabelled_data import AGREEMENT_HEADINGS, agreement_rows

    options = RepairOptions(
        teacher=teacher,
        labels=labels,
        offset_only=offset_only,
        matching=matching,
        phrases=None if phrases is None else str(phrases),
        fit_images=fit_images,
        judge_images=judge_images,
        threshold=threshold,
        overrides=overrides or (),
        resume=resume,
        seed=seed,
        device=device,
        dtype=dtype,
    )
    try:
        found = repair_model(model, method, data, out, options, print_note)
    except KeyboardInterrupt as stop:
        raise Interrupted(str(stop) or "interrupted; go on with --resume") from stop
    if as_json:
        print((out / REPAIR).read_text(encoding="utf-8"), end="")
    elif found.agreements:
        print_table(AGREEMENT_HEADINGS, agreement_rows(found.agreements), numbers=AGREEMENT_HEADINGS[1:])
    else:
        headings = [heading for _, heading, _ in COLUMNS]
        rows = [[name, *judgement_row(it)] for name, it in found.judgements.items()]
        print_table(["", *headings], rows, numbers=headings)
    print_written(f"wrote {out}, a model, and {out / REPORT}", as_json=as_json)


def study(
    recipe: Annotated[str, typer.Option(metavar="RECIPE", help="Name of a packaged recipe, or a YAML file.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the study.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Entries of the recipe to change.")
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the study in --out, if there is one.")
    ] = False,
    minutes: Annotated[
        float | None, typer.Option(min=0, help="Stop after so long; --resume goes on.")
    ] = None,
) -> None:
    """Compare the repairs: teacher, student after stage 1, and each repair of it, over several seeds.

    Writes report.md with a table, what each repair costs, the drift, and figures. It may be stopped at any
    time.
    """
    check_output_folder(out)

    from conceptseg.presence.study import read_study, run_study

    chosen = read_study(recipe, overrides or [])
    try:
        report = run_study(chosen, out, resume, minutes, print_note)
    except KeyboardInterrupt as stop:
        raise Interrupted(str(stop) or "interrupted; go on with --resume") from stop
    print(f"wrote {report}")


def _print(diagnosis: Diagnosis) -> None:
    from conceptseg.presence.report import DRIFT_HEADINGS, drift_rows, figure_rows

    columns = [diagnosis.student] if diagnosis.teacher is None else [diagnosis.teacher, diagnosis.student]
    names = ["model"] if diagnosis.teacher is None else ["teacher", "model"]
    print_table(["presence", *names], figure_rows(columns), numbers=names)
    if diagnosis.drift:
        print_table(DRIFT_HEADINGS, drift_rows(diagnosis), numbers=DRIFT_HEADINGS[1:])
    for fault in diagnosis.faults:
        print(f"remedy ({fault.kind}): {fault.remedy}")
    print(f"verdict: {diagnosis.verdict.repair}: {diagnosis.verdict.reason}")
