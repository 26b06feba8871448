"""`conceptseg evaluate`: every metric of a model on a labelled dataset."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from conceptseg.choices import PromptKind
from conceptseg.cli.console import print_note, print_table, print_written, progress_bar
from conceptseg.cli.help import examples
from conceptseg.cli.model_options import Device, Dtype, ModelName, Presence
from conceptseg.cli.output_folder import check_output_folder

if TYPE_CHECKING:
    from conceptseg.evaluation.evaluate import EvaluationResult


def register(app: typer.Typer) -> None:
    app.command(
        epilog=examples(
            "conceptseg evaluate --data scenes --split held_out --out evaluation",
            "conceptseg evaluate --model runs/mine/model --data my-data --prompts boxes --out evaluation",
        )
    )(evaluate)


def evaluate(
    data: Annotated[
        Path, typer.Option(metavar="DATA", help="Dataset: COCO, Roboflow, SA-Co JSON or YOLO segmentation.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where metrics.json and the report go.")],
    model: ModelName = "nano",
    split: Annotated[
        str | None,
        typer.Option(help="Which part of the data; if not given, the held-out one or the only one."),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the images lie, if not beside the annotations.")
    ] = None,
    annotations: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The annotations, if not where the format says.")
    ] = None,
    prompts: Annotated[
        PromptKind, typer.Option(help="Ask by phrase, by one example box per phrase, or by both together.")
    ] = "text",
    threshold: Annotated[float, typer.Option(min=0, max=1, help="Scores from here on count.")] = 0.5,
    presence: Presence = None,
    absent: Annotated[
        list[str] | None,
        typer.Option(metavar="PHRASE", help="Ask it wherever it is not annotated, too; may be repeated."),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many images.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides which objects are the example boxes.")] = 0,
    device: Device = "auto",
    dtype: Dtype = "auto",
    as_json: Annotated[bool, typer.Option("--json", help="Print metrics.json instead of a table.")] = False,
) -> None:
    """Measure a model on labelled images.

    cgF1, IL-MCC, positive micro-F1, average precision of masks and boxes, precision, recall, presence AUROC
    and calibration error, over all and per phrase. Writes metrics.json, and report.md with figures and the
    worst mistakes drawn.
    """
    check_output_folder(out)

    from conceptseg.data.concept_data import open_dataset
    from conceptseg.evaluation.evaluate import evaluate as evaluate_model
    from conceptseg.evaluation.report import METRICS, metrics_json, notes, write_evaluation
    from conceptseg.loading import load

    dataset = open_dataset(data, split, images, annotations)
    segmenter = load(model, device=device, dtype=dtype)
    with progress_bar("evaluating") as advance:
        result = evaluate_model(
            segmenter,
            dataset,
            prompts,
            threshold=threshold,
            presence=presence,
            limit=limit,
            absent=absent or (),
            seed=seed,
            progress=advance,
        )
    report = write_evaluation(result, out)
    for note in notes(result):
        print_note(f"note: {note}")
    if as_json:
        print(metrics_json(result), end="")
    else:
        _print_tables(result)
    print_written(f"wrote {out / METRICS}, {report} and its figures", as_json=as_json)


def _print_tables(result: EvaluationResult) -> None:
    from conceptseg.evaluation.report import HEADLINES, main_kind
    from conceptseg.report import percent

    names = list(HEADLINES)[:8]
    kinds = ["masks", "boxes"] if main_kind(result) == "masks" else ["boxes"]
    headings = [HEADLINES[name] for name in names]
    rows = [[kind, *(percent(result.metrics[kind][name]) for name in names)] for kind in kinds]
    print_table(["x 100", *headings], rows, numbers=headings)
    counts, presence = result.metrics["counts"], result.presence
    print(
        f"presence: AUROC {percent(presence['auroc'])}, calibration error {percent(presence['ece'])}; "
        f"{counts['images']:,} images, {counts['positive_pairs']:,} present and "
        f"{counts['absent_pairs']:,} absent pairs, {counts['objects']:,} objects"
    )
