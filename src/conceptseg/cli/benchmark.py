"""`conceptseg benchmark`: how fast a model is here, stage by stage, and beside `transformers`."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from conceptseg.choices import OtherProgram
from conceptseg.cli.console import print_json, print_table, print_written, progress_bar
from conceptseg.cli.help import examples
from conceptseg.cli.model_options import AsJson, Device, Dtype, ModelName
from conceptseg.cli.output_folder import check_output_folder


def register(app: typer.Typer) -> None:
    app.command(
        epilog=examples(
            "conceptseg benchmark --model nano --out speed",
            "conceptseg benchmark --model sam3.pt --against transformers --phrases 1 --phrases 8 --out speed",
        )
    )(benchmark)


def benchmark(
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where benchmark.json and benchmark.md go.")],
    model: ModelName = "nano",
    against: Annotated[
        OtherProgram | None, typer.Option(help="Measure the same weights in this program, turn by turn.")
    ] = None,
    image: Annotated[
        Path | None, typer.Option(metavar="IMAGE", help="If not given, the photograph of coins.")
    ] = None,
    text: Annotated[
        list[str] | None, typer.Option(metavar="PHRASE", help="What to ask; may be repeated.")
    ] = None,
    phrases: Annotated[
        list[int] | None,
        typer.Option(metavar="N", min=1, help="So many phrases at once; may be repeated. Default: 1 and 8."),
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="The median of so many is kept.")] = 5,
    device: Device = "auto",
    dtype: Dtype = "auto",
    their_dtype: Annotated[
        str, typer.Option(help="Number type that the other program loads its weights in.")
    ] = "float32",
    as_json: AsJson = False,
) -> None:
    """Measure preprocessing, every part of the network, and the whole.

    Times are medians; memory is the peak of a process of its own; arithmetic is counted and set against what
    this machine reaches in plain matrix products.
    """
    check_output_folder(out)

    from conceptseg.benchmark.report import rows, save_report
    from conceptseg.benchmark.run import benchmark as measure

    with progress_bar("measuring") as advance:
        result = measure(
            model,
            Path(str(files("conceptseg") / "assets" / "coins.png")) if image is None else image,
            against=against,
            text=text or ["coin"],
            phrases=phrases or (1, 8),
            repeats=repeats,
            device=device,
            dtype=dtype,
            their_dtype=their_dtype,
            progress=advance,
        )
    command = f"conceptseg benchmark --model {model}" + (f" --against {against}" if against else "")
    path = save_report(result, out, f"{command} --repeats {repeats} --dtype {dtype} --out DIR")
    if as_json:
        print_json(result.to_dict())
    else:
        headings, table = rows(result)
        print_table(headings, table, numbers=headings[1:])
        if result.agreement:
            print(", ".join(f"{name} {value:.2g}" for name, value in result.agreement.items()))
    print_written(f"wrote {path} and benchmark.json", as_json=as_json)
