"""`conceptseg serve`: the model over HTTP, with a page, and for labelling tools."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from conceptseg.cli.console import print_note
from conceptseg.cli.help import examples
from conceptseg.cli.model_options import GeometryFrom, RuntimeOption, TextContext
from conceptseg.extras import require

if TYPE_CHECKING:
    from conceptseg.segmenter import Segmenter

LOOPBACK = ("127.0.0.1", "localhost", "::1")


def register(app: typer.Typer) -> None:
    app.command(
        epilog=examples(
            "conceptseg serve", "conceptseg serve --model sam3.pt --host 0.0.0.0 --api-key a-long-secret"
        )
    )(serve)


def serve(
    host: Annotated[
        str, typer.Option(help="Address to listen on; 0.0.0.0 lets other machines in.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = 8000,
    model: Annotated[str, typer.Option(help="Embedded name, path, or Hugging Face repository.")] = "nano",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32, bfloat16, float16.")] = "auto",
    geometry_from: GeometryFrom = None,
    text_context: TextContext = None,
    runtime: RuntimeOption = "auto",
    api_key: Annotated[
        str | None,
        typer.Option(envvar="CONCEPTSEG_API_KEY", help="What every request must carry.", show_default=False),
    ] = None,
    cors_origin: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ORIGIN", help="A web page that may ask, https://tool.example; may be repeated."
        ),
    ] = None,
    queue: Annotated[int, typer.Option(help="Requests at once; further ones are answered 503.")] = 32,
    timeout: Annotated[float, typer.Option(help="Seconds that a request may take.")] = 120.0,
    cache_mb: Annotated[int, typer.Option(help="MiB of encoded images to keep.")] = 1024,
    max_upload_mb: Annotated[int, typer.Option(help="MiB that a request may have.")] = 32,
    max_pixels: Annotated[int, typer.Option(help="Pixels that an image may have.")] = 50_000_000,
    label_studio_url: Annotated[
        str | None,
        typer.Option(metavar="URL", help="The Label Studio whose uploaded images may be fetched from it."),
    ] = None,
    label_studio_token: Annotated[
        str | None,
        typer.Option(envvar="LABEL_STUDIO_API_KEY", help="Its access token.", show_default=False),
    ] = None,
) -> None:
    """Serve a model over HTTP, with a page to try it on.

    It also speaks the protocols of X-AnyLabeling and Label Studio. The log goes to standard error, a line
    of JSON per request, without what is in images or prompts.
    """
    require("serve", "conceptseg serve")

    from conceptseg.serving.app import make_app
    from conceptseg.serving.run import listen
    from conceptseg.serving.run import serve as serve_app
    from conceptseg.serving.settings import MIB, Settings

    settings = Settings(
        api_key=api_key,
        cors_origins=tuple(cors_origin or ()),
        queue=queue,
        timeout=timeout,
        cache_bytes=cache_mb * MIB,
        max_upload_bytes=max_upload_mb * MIB,
        max_pixels=max_pixels,
        label_studio_url=label_studio_url,
        label_studio_token=label_studio_token,
    )
    listening = listen(host, port)
    if host not in LOOPBACK and api_key is None:
        print_note(f"note: whoever reaches {host} may use this service; --api-key asks for a key")

    def load_model() -> Segmenter:
        from conceptseg.loading import load

        return load(
            model,
            device=device,
            dtype=dtype,
            geometry_from=geometry_from,
            text_context=text_context,
            runtime=runtime,
        )

    shown = f"[{host}]" if ":" in host else host
    url = f"http://{shown}:{listening.getsockname()[1]}"
    serve_app(
        make_app(load_model, model, settings),
        listening,
        lambda: print_note(f"conceptseg serves {model} at {url} (Ctrl-C stops it)"),
    )
