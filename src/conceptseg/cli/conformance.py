"""`conceptseg conformance`: a kit that any port of the model can be checked against, stage by stage."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from conceptseg.cli.console import print_json, print_note, print_table, print_written
from conceptseg.cli.help import examples, show_help
from conceptseg.cli.model_options import AsJson
from conceptseg.cli.output_folder import check_output_folder

DEPARTED = 1  # exit code


class TextEncoder(str, Enum):
    """Text encoders that a kit can have."""

    clip = "clip"
    mobileclip = "mobileclip"


def register(app: typer.Typer) -> None:
    group = typer.Typer(
        help="Check a port of the model (ONNX, C, MLX, a fork) stage by stage.",
        epilog=examples("conceptseg conformance make kit", "conceptseg conformance check kit outputs.npz"),
        invoke_without_command=True,
        rich_markup_mode=None,
    )
    group.callback()(show_help)
    group.command(
        "make",
        epilog=examples(
            "conceptseg conformance make kit", "conceptseg conformance make kit --text-encoder mobileclip"
        ),
    )(make)
    group.command(
        "check",
        epilog=examples(
            "conceptseg conformance check kit outputs.safetensors",
            "conceptseg conformance check kit outputs --tolerance 0.02",
        ),
    )(check)
    app.add_typer(group, name="conformance")


def make(
    out: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the kit; made when missing.")],
    text_encoder: Annotated[
        TextEncoder, typer.Option(help="clip: as SAM 3; mobileclip: as its students.")
    ] = TextEncoder.clip,
    seed: Annotated[int, typer.Option(min=0, help="Of the random weights and images.")] = 0,
) -> None:
    """Write tiny random weights in the official layout, and the tensor of every stage from pixels to masks.

    The kit explains itself (README.md) and holds a reader that needs only numpy and safetensors.
    """
    check_output_folder(out, "DIR")

    from conceptseg.conformance.make import make_kit

    make_kit(out, text_encoder.value, seed)
    print(f"wrote {out}, and {out / 'README.md'} on how to use it")


def check(
    kit: Annotated[Path, typer.Argument(metavar="KIT", help="What `conformance make` wrote.")],
    outputs: Annotated[
        Path, typer.Argument(metavar="OUTPUTS", help=".safetensors or .npz file, or a folder, of the port.")
    ],
    tolerance: Annotated[
        float | None,
        typer.Option(min=0, help="Largest difference over root mean square; if not given, the kit's."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Compare what a port computes with a kit, and name the first stage that departs, and how far.

    Exit code 1 when a stage departs.
    """
    from conceptseg.conformance.kit import NOT_GIVEN, Kit, KitError, summary
    from conceptseg.conformance.kit import check as compare
    from conceptseg.errors import DataError

    try:
        found = compare(Kit(kit), outputs, tolerance)
    except KitError as error:  # of the reader, which knows none of our errors
        raise DataError(str(error)) from error
    if found.unknown:
        print_note(f"note: no stage is called {', '.join(found.unknown)}")
    if as_json:
        print_json(
            {
                "first": None if found.first is None else found.first.stage.name,
                "causes": [finding.stage.name for finding in found.sources],
                "stages": {
                    f.stage.name: {
                        "status": f.status,
                        # JSON has no infinity: another shape or values that are no numbers have no distance
                        "distance": f.distance
                        if f.status != NOT_GIVEN and f.distance < float("inf")
                        else None,
                        "where": f.where,
                    }
                    for f in found.findings
                },
            }
        )
    else:
        rows = [
            (f.stage.name, f.status, "" if f.status == NOT_GIVEN else f"{f.distance:.1e}", f.where)
            for f in found.findings
        ]
        print_table(["stage", "", "difference", "where"], rows, numbers=["difference"])
    print_written(summary(found), as_json=as_json)
    if found.departures:
        raise typer.Exit(DEPARTED)
