"""`conceptseg models`: what can be loaded, and what is in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from conceptseg.cli.console import print_json, print_table
from conceptseg.cli.help import examples

if TYPE_CHECKING:
    from conceptseg.segmenter import Segmenter

ANYTHING_ELSE = "or the path of a model folder, or a Hugging Face repository such as owner/name"
PROMPTS = ["text", "boxes, positive and negative", "exemplars from other images"]


def register(app: typer.Typer) -> None:
    group = typer.Typer(
        help="List models; `models info MODEL` describes one.",
        epilog=examples("conceptseg models", "conceptseg models info nano"),
        invoke_without_command=True,
        rich_markup_mode=None,
    )
    group.callback()(list_models)
    group.command(
        "info",
        epilog=examples("conceptseg models info nano", "conceptseg models info runs/nano/model --json"),
    )(info)
    app.add_typer(group, name="models")


def list_models(
    context: typer.Context,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    if context.invoked_subcommand is not None:
        return
    from conceptseg.hub import available_models
    from conceptseg.segmenter import load

    models = {name: describe(load(name, device="cpu")) for name in available_models()}
    if as_json:
        print_json({"embedded": models, "else": ANYTHING_ELSE})
        return
    print_table(
        ["model", "parameters", "resolution", "licence"],
        [
            (name, f"{model['parameters']['all']:,}", f"{model['resolution']} px", model["licence"])
            for name, model in models.items()
        ],
        numbers=["parameters", "resolution"],
    )
    print(ANYTHING_ELSE)


def info(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Embedded name, path, or Hugging Face repository.")
    ],
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Describe one model.

    Parameters of each part, what it can be asked, how it reads presence, licence and provenance.
    """
    from conceptseg.segmenter import load

    description = describe(load(model, device="cpu"))
    if as_json:
        print_json(description)
        return
    presence = description["presence"]
    parts = description["parameters"]
    rows = [
        ("name", description["name"]),
        ("parameters", f"{parts['all']:,}"),
        *((f"  {part.replace('_', ' ')}", f"{count:,}") for part, count in parts.items() if part != "all"),
        ("resolution", f"{description['resolution']} px, a multiple of {description['stride']}"),
        ("prompts", "; ".join(description["prompts"])),
        ("presence", presence["mode"]),
        ("  calibration", f"scale {presence['scale']:g}, offset {presence['offset']:g}"),
        ("licence", description["licence"]),
        *((f"  {key}", _plain(value)) for key, value in description["provenance"].items()),
    ]
    print_table(["what", model], rows)


def describe(segmenter: Segmenter) -> dict[str, Any]:
    """Everything that `models info` says, ready for JSON."""
    config = segmenter.config
    parts = {
        name: sum(parameter.numel() for parameter in part.parameters())
        for name, part in segmenter.detector.named_children()
    }
    whole = sum(parameter.numel() for parameter in segmenter.detector.parameters())
    provenance = dict(config.provenance)
    return {
        "name": provenance.pop("name", "not stated"),
        "parameters": {"all": whole, **parts},
        "resolution": config.preprocessing.resolution,
        "stride": config.architecture.vision.stride,
        "prompts": PROMPTS,
        "presence": {
            "mode": config.presence_mode,
            "scale": config.presence_calibration.scale,
            "offset": config.presence_calibration.offset,
        },
        "licence": provenance.pop("licence", "not stated"),
        "fingerprint": segmenter.fingerprint,
        "provenance": provenance,
    }


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)
