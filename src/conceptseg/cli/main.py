"""`conceptseg`: the commands in one place, and how every command ends.

A user's mistake ends in one line, `error: ...`, on standard error and exit code 2; Ctrl-C in one line, 130.
Nothing here imports torch: commands do that when they run, so that `--help` is instant.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

import conceptseg
from conceptseg.cli import (
    benchmark,
    conformance,
    convert,
    data,
    demo,
    distill,
    evaluate,
    exemplar,
    export,
    finetune,
    label,
    models,
    presence,
    review,
    scenes,
    segment,
    serve,
    train,
)
from conceptseg.cli.help import examples, show_help
from conceptseg.cli.interrupted import Interrupted
from conceptseg.errors import ConceptSegError
from conceptseg.unstable import usage_error

INTERRUPTED = 130  # 128 + SIGINT, as shells say it
BROKEN_PIPE = 1  # as Typer and rich end, which notice most closed pipes first

app = typer.Typer(
    name="conceptseg",
    help="Segment every object that a phrase or an example box means.",
    epilog=examples("conceptseg demo", "conceptseg segment street.jpg --text 'yellow bus' --out found"),
    context_settings={"help_option_names": ["-h", "--help"]},
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain help: no boxes, and no rich import before it shows
)
demo.register(app)
segment.register(app)
models.register(app)
convert.register(app)
scenes.register(app)
data.register(app)
train.register(app)
finetune.register(app)
label.register(app)
review.register(app)
evaluate.register(app)
exemplar.register(app)
distill.register(app)
presence.register(app)
export.register(app)
benchmark.register(app)
conformance.register(app)
serve.register(app)


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        typer.echo(f"conceptseg {conceptseg.__version__}")
    else:
        show_help(context)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: what follows `conceptseg`; None takes them from the process.

    Returns:
        The exit code: 0; 2 after a user's mistake; 130 when interrupted; 1 when nobody reads the output.
    """
    # Threads that spin while they wait stand in each other's way on a busy machine. Read once, as torch
    # is imported.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        status = app(args=arguments, prog_name="conceptseg", standalone_mode=False)
        sys.stdout.flush()  # a closed pipe shows here and not after the last line of Python
    except ConceptSegError as error:
        return _fail(str(error))
    except usage_error() as error:
        return _fail(_usage_message(error))
    except Interrupted as stop:
        print(stop, file=sys.stderr)
        return INTERRUPTED
    except (KeyboardInterrupt, typer.Abort):
        print("interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Python flushes standard output once more when it exits; let that go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except OSError as error:  # a full disk, a folder without rights
        where = f"{error.filename}: " if error.filename else ""
        return _fail(where + (error.strerror or str(error)).lower())
    if status == INTERRUPTED:  # newer versions of Typer turn Ctrl-C into this code themselves
        print("interrupted", file=sys.stderr)
    return status if isinstance(status, int) else 0


def _fail(message: str) -> int:
    print("error: " + " ".join(message.split()), file=sys.stderr)
    return 2


def _usage_message(error: Any) -> str:
    """Typer's words in our form, and where help is to be found."""
    message = error.format_message().strip().rstrip(".").replace("Value error, ", "")
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "conceptseg"
    return f"{message[:1].lower()}{message[1:]} (see {command} --help)"
