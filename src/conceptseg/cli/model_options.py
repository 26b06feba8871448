"""Options that several commands have, each with one help text."""

from __future__ import annotations

from typing import Annotated

import typer

from conceptseg.choices import PresenceMode, Runtime

ModelName = Annotated[str, typer.Option(help="Embedded name, path, or Hugging Face repository.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")]
Dtype = Annotated[str, typer.Option(help="auto, float32, bfloat16, float16.")]
Presence = Annotated[
    PresenceMode | None,
    typer.Option(help="How presence enters the scores; if not given, as the model's config says."),
]
Exemplars = Annotated[
    list[str] | None,
    typer.Option(
        metavar="IMAGE:X0,Y0,X1,Y1",
        help="Example on another image, or a concept file (.safetensors); several are pooled, and joined "
        "with each --text.",
    ),
]
NegativeExemplars = Annotated[
    list[str] | None,
    typer.Option(metavar="IMAGE:X0,Y0,X1,Y1", help="Example on another image: not like this."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]

# Of every command that loads weights of other programs.
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
