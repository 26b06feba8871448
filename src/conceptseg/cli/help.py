"""What `--help` ends in, and what a group of commands says when it is called alone."""

from __future__ import annotations

import typer


def examples(*commands: str) -> str:
    """An epilog that keeps its lines (the backspace is Typer's sign for that)."""
    return "\n".join(["\b", "Example:" if len(commands) == 1 else "Examples:", *(f"  {c}" for c in commands)])


def show_help(context: typer.Context) -> None:
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())
