"""`conceptseg export onnx`: a model as ONNX files, compared with torch before they are put in place."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from conceptseg.choices import Quantize
from conceptseg.cli.console import print_json, print_note, print_table, print_written, progress_bar
from conceptseg.cli.help import examples
from conceptseg.cli.model_options import AsJson, ModelName
from conceptseg.cli.output_folder import check_output_folder


def register(app: typer.Typer) -> None:
    group = typer.Typer(
        help="Write a model for other programs.",
        epilog=examples("conceptseg export onnx --model nano --out nano-onnx"),
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    group.callback()(_group)
    group.command(
        "onnx",
        epilog=examples(
            "conceptseg export onnx --model nano --out nano-onnx",
            "conceptseg export onnx --model sam3.pt --out sam3-onnx --quantize int8",
            "conceptseg segment street.jpg --text car --model nano-onnx",
        ),
    )(onnx)
    app.add_typer(group, name="export")


def _group() -> None:
    """A callback, so that `onnx` stays a command of its own although it is the only one."""


def onnx(
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the files go; made when missing.")],
    model: ModelName = "nano",
    quantize: Annotated[
        Quantize, typer.Option(help="int8: weights in 8 bits, matrix products in whole numbers.")
    ] = "none",
    check: Annotated[
        bool,
        typer.Option(
            help="Compare every graph with torch, on random inputs and on a photograph, and write nothing "
            "when one drifts."
        ),
    ] = True,
    resolution: Annotated[
        int | None, typer.Option(min=1, help="Pixels per side; if not given, what the model was trained at.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write vision.onnx, text.onnx, exemplar.onnx and detector.onnx.

    Standard operators of opset 18, with open axes for images, prompts, boxes and prompt tokens;
    docs/export.md names the inputs and outputs. `cs.load(FOLDER)` and every command with --model run them
    through ONNX Runtime.
    """
    check_output_folder(out)

    from conceptseg.export.onnx_export import export_onnx
    from conceptseg.loading import load

    segmenter = load(model, device="cpu", dtype="float32")
    with progress_bar("exporting") as advance:
        exported = export_onnx(
            segmenter, out, resolution=resolution, quantize=quantize, check=check, progress=advance
        )
    if not check:
        print_note("note: the graphs were not compared with torch")
    if as_json:
        print_json({"files": exported.files, "quantize": quantize, "differences": exported.differences})
    else:
        kind = "largest difference" if quantize == "none" else "relative difference"
        print_table(
            ["file", "bytes", kind],
            [
                (name, f"{size:,}", _worst(exported.differences, name))
                for name, size in exported.files.items()
            ],
            numbers=["bytes", kind],
        )
    print_written(f"wrote {out}", as_json=as_json)


def _worst(differences: dict[str, dict[str, float]], file: str) -> str:
    found = differences.get(file.removesuffix(".onnx"))
    return "-" if found is None else f"{max(found.values()):.1e}"
