"""`conceptseg review`: look through what `conceptseg label` found, and correct it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from conceptseg.cli.console import print_note, print_written
from conceptseg.cli.help import examples
from conceptseg.extras import require

if TYPE_CHECKING:
    from conceptseg.review import Exported
    from conceptseg.segmenter import Segmenter


def register(app: typer.Typer) -> None:
    app.command(epilog=examples("conceptseg review labels", "conceptseg review labels --export"))(review)


def review(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder that `conceptseg label` wrote.")],
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on, of this machine alone; 0: a free one.")
    ] = 8001,
    model: Annotated[
        str | None,
        typer.Option(
            help="Asked for what labels lack; if not given, the one that labelled.", show_default=False
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16, float16.")] = "auto",
    export: Annotated[
        bool, typer.Option("--export", help="Write the accepted images as COCO and stop, without the page.")
    ] = False,
) -> None:
    """Accept, reject and correct labelled images on a page.

    Images whose presence or scores lie nearest to a threshold come first. Every decision is saved at once, in
    DIR, and can be undone. What is accepted is exported as a COCO dataset that `conceptseg finetune` takes.
    """
    require("serve", "conceptseg review")

    from conceptseg.review import Review, export_accepted

    with Review.open(folder) as opened:
        if export:
            _print_exported(export_accepted(opened))
            return

        from conceptseg.labelling import ModelChoice
        from conceptseg.review.app import LOOPBACK, make_review_app
        from conceptseg.serving.run import listen, serve

        kept = ModelChoice(**opened.model) if model is None else ModelChoice(model)
        listening = listen(LOOPBACK, port)

        def load_model() -> Segmenter:
            from dataclasses import replace

            return replace(kept, device=device, dtype=dtype).load()

        url = f"http://{LOOPBACK}:{listening.getsockname()[1]}"
        serve(
            make_review_app(opened, load_model, kept.name),
            listening,
            lambda: print_note(f"review {len(opened):,} images at {url} (Ctrl-C stops it)"),
        )


def _print_exported(written: Exported) -> None:
    print_written(
        f"wrote {written.folder}: {written.images:,} images, {written.objects:,} objects", as_json=False
    )
