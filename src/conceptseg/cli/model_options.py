"""Options of every command that loads weights of other programs."""

from __future__ import annotations

from typing import Annotated

import typer

from conceptseg.choices import Runtime

GeometryFrom = Annotated[
    str | None,
    typer.Option(metavar="MODEL", help="Where parts come from that the model's file lacks, such as sam3.pt."),
]
TextContext = Annotated[
    int | None,
    typer.Option(
        metavar="TOKENS", help="Length of phrases that a MobileCLIP text encoder reads: 16, 32 or 77."
    ),
]
RuntimeOption = Annotated[
    Runtime,
    typer.Option(help="What computes; openvino runs folders that conceptseg export onnx wrote."),
]
