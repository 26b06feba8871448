"""`conceptseg exemplar`: concept files, and the gap between example boxes and the image."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from conceptseg.cli.concepts import CONCEPT_ENDING, parse_concepts, pool_concepts
from conceptseg.cli.console import print_note, print_table, print_written, progress_bar
from conceptseg.cli.help import examples, show_help
from conceptseg.cli.interrupted import Interrupted
from conceptseg.cli.model_options import Device, Dtype, ModelName
from conceptseg.cli.output_folder import check_output_folder
from conceptseg.errors import PromptError


def register(app: typer.Typer) -> None:
    group = typer.Typer(
        help="Example boxes: how well they agree with the image.",
        epilog=examples("conceptseg exemplar gap --model nano --data my-data --out gap"),
        invoke_without_command=True,
        rich_markup_mode=None,
    )
    group.callback()(show_help)
    group.command(
        epilog=examples(
            "conceptseg exemplar gap --model nano --data my-data --out gap",
            "conceptseg exemplar gap --model student --against runs/align/model --data my-data --out gap",
        )
    )(gap)
    group.command(
        epilog=examples(
            "conceptseg exemplar study --recipe exemplar-study --out study",
            "conceptseg exemplar study --recipe exemplar-study seeds=[0] --out study --resume",
        )
    )(study)
    group.command(
        epilog=examples(
            "conceptseg exemplar save a.jpg:40,12,90,80 b.jpg:10,10,60,70 --to widget.concept.safetensors",
            "conceptseg segment photos/ --exemplar widget.concept.safetensors",
        )
    )(save)
    app.add_typer(group, name="exemplar")


def gap(
    data: Annotated[
        Path, typer.Option(metavar="DATA", help="Dataset: COCO, Roboflow, SA-Co JSON or YOLO segmentation.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where gap.json and the report go.")],
    model: ModelName = "nano",
    against: Annotated[
        str | None, typer.Option(metavar="MODEL", help="Measure this one too, and put it beside.")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="Which part of the data; if not given, the held-out one or the only one."),
    ] = None,
    images: Annotated[int, typer.Option(min=1, help="Look at the first so many images.")] = 40,
    per_concept: Annotated[int, typer.Option(min=1, help="Examples of each concept in each image.")] = 3,
    changed: Annotated[
        int, typer.Option(min=0, help="Examples shown again at other sizes, elsewhere, and covered.")
    ] = 48,
    gradients: Annotated[int, typer.Option(min=0, help="Examples whose gradients are compared.")] = 12,
    seed: Annotated[int, typer.Option(min=0, help="Decides which objects are examples.")] = 0,
    device: Device = "auto",
    dtype: Dtype = "float32",
    as_json: Annotated[bool, typer.Option("--json", help="Print gap.json instead of a table.")] = False,
) -> None:
    """Measure how far exemplar tokens and image features are apart.

    Channel statistics, agreement (cosine and retrieval), what scale, background and occlusion do to a token,
    and whether the two encoders' gradients oppose each other. Writes gap.json, gap.md and gap.png.
    """
    check_output_folder(out)

    from conceptseg.data.concept_data import open_dataset
    from conceptseg.exemplars.gap import measure_gap
    from conceptseg.exemplars.gap_report import JSON, gap_json, gap_table, write_gap
    from conceptseg.loading import load

    dataset = open_dataset(data, split)
    measured = []
    for name in (model, against):
        if name is None:
            continue
        segmenter = load(name, device=device, dtype=dtype)
        with progress_bar("measuring") as advance:
            measured.append(
                measure_gap(
                    segmenter,
                    dataset,
                    images=images,
                    per_concept=per_concept,
                    changed=changed,
                    gradients=gradients,
                    seed=seed,
                    progress=advance,
                )
            )
    beside = measured[1] if len(measured) > 1 else None
    report = write_gap(measured[0], out, beside)
    if as_json:
        print(gap_json(measured[0], beside), end="")
    else:
        headings, rows = gap_table(measured[0], beside)
        print_table(headings, rows, numbers=headings[1:])
    print_written(f"wrote {out / JSON} and {report}", as_json=as_json)


def study(
    recipe: Annotated[
        str, typer.Option(metavar="R", help="Name of a packaged recipe, or the path of a YAML file.")
    ],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where the runs and the report go.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Entries of the recipe to change.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on where the study in --out stopped.")] = False,
) -> None:
    """Train exemplar encoders and alignment losses side by side, and compare them.

    The vision encoder is frozen and its features are kept. The report is written anew after every run.
    """
    check_output_folder(out)

    from conceptseg.exemplars.study import run_study
    from conceptseg.exemplars.study_recipe import load_study_recipe

    chosen = load_study_recipe(recipe, overrides)
    try:
        report = run_study(chosen, out, resume, _say_done)
    except KeyboardInterrupt as stop:
        raise Interrupted(str(stop) or "interrupted; go on with --resume") from stop
    print(f"wrote {report}")


def _say_done(done: int, wanted: int) -> None:
    print_note(f"{done} of {wanted} runs are measured")


def save(
    shown: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE:X0,Y0,X1,Y1", help="Examples, on one image or several; or concept files."
        ),
    ],
    to: Annotated[Path, typer.Option(metavar="FILE", help="Where: NAME.concept.safetensors.")],
    negative: Annotated[
        list[str] | None,
        typer.Option(metavar="IMAGE:X0,Y0,X1,Y1", help="Not like this; may be repeated."),
    ] = None,
    model: ModelName = "nano",
    device: Device = "auto",
    dtype: Dtype = "auto",
) -> None:
    """Make a concept file of examples, to be found in other images.

    A few kB; it means something only to the model that made it.
    """
    concepts = parse_concepts(shown, negative)
    if to.suffix != CONCEPT_ENDING:
        raise PromptError(f"--to {to} must end in {CONCEPT_ENDING}, such as widget.concept.safetensors")

    from conceptseg.loading import load

    kind = pool_concepts(load(model, device=device, dtype=dtype), concepts)
    assert kind is not None  # the argument asks for at least one
    kind.save(to)
    positive = sum(kind.labels)
    print(
        f"wrote {to}: {positive} positive and {len(kind.labels) - positive} negative examples "
        f"on {kind.images} image{'s' * (kind.images != 1)}"
    )
