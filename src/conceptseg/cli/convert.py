"""`conceptseg convert`: weights from one layout into another, bit for bit."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from conceptseg.choices import WeightFormat
from conceptseg.cli.console import print_json, print_note, print_table, print_written
from conceptseg.cli.help import examples
from conceptseg.cli.model_options import AsJson, GeometryFrom, TextContext
from conceptseg.cli.output_folder import check_output_folder


def register(app: typer.Typer) -> None:
    app.command(
        epilog=examples(
            "conceptseg convert sam3.pt --to sam3",
            "conceptseg convert sam3 --to for-transformers --format hf",
            "conceptseg convert efficient_sam3.pt --to student --geometry-from sam3.pt",
            "conceptseg convert sam3_litetext.pt --to litetext --text-context 16",
        )
    )(convert)


def convert(
    source: Annotated[
        str, typer.Argument(metavar="SOURCE", help="Embedded name, path, or Hugging Face repository.")
    ],
    to: Annotated[Path, typer.Option(metavar="FOLDER", help="Where the files go; made when missing.")],
    format: Annotated[
        WeightFormat,
        typer.Option(
            help="own: a model folder; hf: for transformers; official: a .pt for the original code."
        ),
    ] = "own",
    geometry_from: GeometryFrom = None,
    text_context: TextContext = None,
    as_json: AsJson = False,
) -> None:
    """Bring weights into another layout.

    Tensors keep their bits and number types; converting back gives the same keys and values again, without
    what belongs to other networks (the video tracker, a teacher).
    """
    check_output_folder(to, "--to")

    from conceptseg.checkpoints.convert import convert as convert_checkpoint
    from conceptseg.checkpoints.loaders import open_checkpoint
    from conceptseg.checkpoints.report import report_lines
    from conceptseg.errors import OptionError
    from conceptseg.hub import find_model

    path = find_model(source)
    if to.resolve() in (path.resolve(), path.resolve().parent):
        raise OptionError(f"--to {to} is where the source lies; give another folder")
    others = None if geometry_from is None else find_model(geometry_from)
    checkpoint = open_checkpoint(path, others, text_context)
    done = convert_checkpoint(checkpoint, to, format)
    if done.lost:
        print_note(f"note: left out, because the {format} layout has no place for it: {', '.join(done.lost)}")
    files = {file.name: file.stat().st_size for file in done.files}
    if as_json:
        print_json({"weights": checkpoint.report.to_dict(), "files": files, "left_out": done.lost})
    else:
        sizes = [(f"  {name}", f"{size:,} bytes") for name, size in files.items()]
        print_table(
            ["what", source], [*report_lines(checkpoint.report.to_dict()), ("written", str(to)), *sizes]
        )
    print_written(f"wrote {to}", as_json=as_json)
