"""`conceptseg models`: what can be loaded, and what is in it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from conceptseg.cli.console import print_json, print_table, print_written
from conceptseg.cli.help import examples
from conceptseg.cli.model_options import AsJson, GeometryFrom, TextContext

if TYPE_CHECKING:
    from conceptseg.models.config import AnyVisionConfig, MobileClipTextConfig, TextConfig

ANYTHING_ELSE = (
    "or the path of a model folder or of a file of SAM 3, EfficientSAM3 or SAM3-LiteText weights, or a "
    "Hugging Face repository such as owner/name"
)
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
        epilog=examples("conceptseg models info nano", "conceptseg models info sam3.pt --json"),
    )(info)
    group.command("push", epilog=examples("conceptseg models push runs/mine/model me/my-model --private"))(
        push
    )
    group.command("pull", epilog=examples("conceptseg models pull me/my-model my-model"))(pull)
    app.add_typer(group, name="models")


def list_models(
    context: typer.Context,
    as_json: AsJson = False,
) -> None:
    if context.invoked_subcommand is not None:
        return
    from conceptseg.hub import available_models

    models = {name: describe(name) for name in available_models()}
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
    geometry_from: GeometryFrom = None,
    text_context: TextContext = None,
    as_json: AsJson = False,
) -> None:
    """Describe one model.

    Parameters of each part, what it can be asked, how it reads presence, licence and provenance; and for the
    files of other programs which tensors were found, which were skipped, and why.
    """
    description = describe(model, geometry_from, text_context)
    if as_json:
        print_json(description)
        return
    from conceptseg.checkpoints.report import report_lines

    presence = description["presence"]
    parts = description["parameters"]
    provenance = dict(description["provenance"])
    came_as = provenance.pop("weights", None)  # of a folder that was converted
    rows = [
        ("name", description["name"]),
        ("parameters", f"{parts['all']:,}"),
        *((f"  {part.replace('_', ' ')}", f"{count:,}") for part, count in parts.items() if part != "all"),
        ("encoders", f"{description['vision']}; {description['text']}"),
        ("resolution", f"{description['resolution']} px, a multiple of {description['stride']}"),
        ("prompts", "; ".join(description["prompts"])),
        ("presence", presence["mode"]),
        ("  calibration", f"scale {presence['scale']:g}, offset {presence['offset']:g}"),
        *report_lines(description["weights"]),
        *([("  converted from", came_as["layout"])] if came_as else []),
        ("licence", description["licence"]),
        *((f"  {key}", _plain(value)) for key, value in provenance.items()),
    ]
    print_table(["what", model], rows)


def push(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Of a model; an exported one, too.")],
    repo: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Repository on the Hugging Face Hub.")],
    private: Annotated[
        bool, typer.Option("--private", help="Nobody else sees a repository that is made now.")
    ] = False,
    message: Annotated[str, typer.Option(help="Of the commit.")] = "",
) -> None:
    """Upload a model to the Hugging Face Hub, with a card that says what it is.

    Needs a login (`hf auth login`) or HF_TOKEN. `cs.load("OWNER/NAME")` then gives it.
    """
    from conceptseg.hub_upload import push_model

    print_written(f"wrote {push_model(folder, repo, private, message)}", as_json=False)


def pull(
    repo: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Also OWNER/NAME@REVISION.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="That is made.")],
) -> None:
    """Bring a model from the Hugging Face Hub into a folder."""
    from conceptseg.hub_upload import pull_model

    print_written(f"wrote {pull_model(repo, folder)}", as_json=False)


def describe(model: str, geometry_from: str | None = None, text_context: int | None = None) -> dict[str, Any]:
    """Everything that `models info` says, ready for JSON. Reads no more of the weights than the fingerprint
    needs.
    """
    from conceptseg.checkpoints.fingerprint import model_fingerprint
    from conceptseg.checkpoints.loaders import open_checkpoint
    from conceptseg.hub import find_model

    others = None if geometry_from is None else find_model(geometry_from)
    checkpoint = open_checkpoint(find_model(model), others, text_context)
    config, detector = checkpoint.config, checkpoint.load()
    parts = {
        name: sum(parameter.numel() for parameter in part.parameters())
        for name, part in detector.named_children()
    }
    provenance = dict(config.provenance)
    if provenance.get("weights") == checkpoint.report.to_dict():
        del provenance["weights"]  # said once is enough
    return {
        "name": provenance.pop("name", "not stated"),
        "parameters": {"all": sum(parts.values()), **parts},
        "vision": _vision(config.architecture.vision),
        "text": _text(config.architecture.text),
        "resolution": config.preprocessing.resolution,
        "stride": config.architecture.vision.stride,
        "prompts": PROMPTS,
        "presence": {
            "mode": config.presence_mode,
            "scale": config.presence_calibration.scale,
            "offset": config.presence_calibration.offset,
        },
        "weights": checkpoint.report.to_dict(),
        "licence": provenance.pop("licence", "not stated"),
        "fingerprint": model_fingerprint(detector),
        "provenance": provenance,
    }


def _vision(config: AnyVisionConfig) -> str:
    """The kind, or which network where the kind leaves that open."""
    return str(getattr(config, "backbone", getattr(config, "network", config.kind)))


def _text(config: TextConfig | MobileClipTextConfig) -> str:
    rows = getattr(config, "rows", config.context_length)
    spare = f" (positions for {rows})" if rows > config.context_length else ""
    return f"{config.kind}, {config.context_length} tokens{spare}"


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items())
    return f"{value:g}" if isinstance(value, float) else str(value)
